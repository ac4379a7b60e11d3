//! What others wrote, for people at a terminal.

/// The character, if people see it and it does nothing else; in its place a sign that something was there.
///
/// What is named is what passes, as nobody can name all the others: controls, what turns the direction of text around, what takes no room, joins what stands
/// beside it or looks like a space. Two texts that look alike would be taken for one.
pub fn printable(c: char) -> char {
    match c {
        // Letters by name that nobody sees.
        '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' => '\u{fffd}',
        ' '..='~' | '…' => c,
        _ if !c.is_ascii() && c.is_alphanumeric() => c,
        _ => '\u{fffd}',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_passes_that_nobody_sees() {
        let seen = "a Z~ {…} Zürich 東京 Δ ٣";
        assert_eq!(seen.chars().map(printable).collect::<String>(), seen);
        for c in "\0\n\t\u{1b}\u{7f}\u{85}\u{a0}\u{ad}\u{61c}\u{115f}\u{180e}\u{200b}\u{200c}\u{200d}\u{200e}\u{2028}\u{2029}\u{202e}\u{2060}\u{2066}\
                  \u{3164}\u{fe0f}\u{feff}\u{fff9}\u{e0041}\u{e007f}"
            .chars()
        {
            assert_eq!(printable(c), '\u{fffd}', "{c:?}");
        }
    }
}

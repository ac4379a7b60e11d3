//! The page that shows what is in a folder.

/// Writes the page of a folder. `path`: the canonical path that was asked for, with its slash; `entries`: names, and whether each is a folder.
/// `more`: there are others that are not shown; those that would make the page longer than `most` bytes, about, are not shown either.
///
/// Names may hold anything a file system allows: they are percent-encoded in places and escaped in texts, so that none becomes markup.
pub fn write(path: &[u8], entries: &[(Vec<u8>, bool)], more: bool, most: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n<title>");
    text(path, out);
    out.extend_from_slice(b"</title>\n<h1>");
    text(path, out);
    out.extend_from_slice(b"</h1>\n<ul>\n<li><a href=\"../\">../</a>\n");
    let mut more = more;
    for (name, folder) in entries {
        if out.len() >= most {
            more = true;
            break;
        }
        // `./` in front: a name such as `javascript:x` is no scheme, and `//x` can not begin one.
        out.extend_from_slice(b"<li><a href=\"./");
        place(name, out);
        let slash: &[u8] = if *folder { b"/" } else { b"" };
        out.extend_from_slice(slash);
        out.extend_from_slice(b"\">");
        text(name, out);
        out.extend_from_slice(slash);
        out.extend_from_slice(b"</a>\n");
    }
    out.extend_from_slice(b"</ul>\n");
    if more {
        out.extend_from_slice(b"<p>There are more.\n");
    }
}

fn text(name: &[u8], out: &mut Vec<u8>) {
    for char in String::from_utf8_lossy(name).chars() {
        match char {
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '&' => out.extend_from_slice(b"&amp;"),
            '"' => out.extend_from_slice(b"&quot;"),
            '\'' => out.extend_from_slice(b"&#39;"),
            char if char.is_control() => out.extend_from_slice("\u{fffd}".as_bytes()),
            char => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

fn place(name: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    for &byte in name {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(byte);
        } else {
            out.extend([b'%', digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_no_markup() {
        let names = ["a b.txt", "<script>", "\"onload=x", "javascript:x", "ü&.css", "\n", "50%"];
        let entries: Vec<_> = names.iter().map(|name| (name.as_bytes().to_vec(), *name == "ü&.css")).collect();
        let mut out = Vec::new();
        write(b"/a<b/", &entries, true, usize::MAX, &mut out);
        let page = String::from_utf8(out).unwrap();
        for part in [
            "<h1>/a&lt;b/</h1>",
            "<a href=\"./a%20b.txt\">a b.txt</a>",
            "<a href=\"./%3Cscript%3E\">&lt;script&gt;</a>",
            "<a href=\"./%22onload%3Dx\">&quot;onload=x</a>",
            "<a href=\"./javascript%3Ax\">",
            "<a href=\"./%C3%BC%26.css/\">ü&amp;.css/</a>",
            "<a href=\"./%0A\">\u{fffd}</a>",
            "50%25",
            "There are more",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
    }

    #[test]
    fn a_page_has_an_end() {
        let entries: Vec<_> = (0..1000).map(|number| (format!("{number:04}").into_bytes(), false)).collect();
        let mut out = Vec::new();
        write(b"/", &entries, false, 2000, &mut out);
        let page = String::from_utf8(out).unwrap();
        assert!(page.len() < 2200 && page.contains("0001") && !page.contains("0999"), "{page}");
        assert!(page.contains("There are more"));
    }
}

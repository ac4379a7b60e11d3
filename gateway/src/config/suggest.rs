//! "Did you mean": the word that a misspelt one was meant to be.

/// The candidate that `word` is most probably a misspelling of.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_ascii_lowercase().replace('-', "_");
    let tolerance = match word.len() {
        0..=2 => 0,
        3..=4 => 1,
        5..=8 => 2,
        _ => 3,
    };
    candidates
        .into_iter()
        .map(|candidate| {
            (strsim::damerau_levenshtein(&lower, &candidate.to_ascii_lowercase().replace('-', "_")), candidate)
        })
        // A singular for a plural, and the other way round, is a near miss at any length.
        .filter(|&(distance, candidate)| {
            distance <= tolerance || format!("{lower}s") == candidate || lower == format!("{candidate}s")
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// The hint for a word that is none of `candidates`: the nearest one, or all of them.
pub(super) fn hint<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
    what: &str,
) -> Option<String> {
    if let Some(nearest) = nearest(word, candidates.clone()) {
        return Some(format!("did you mean `{nearest}`?"));
    }
    let mut all = candidates.into_iter().peekable();
    all.peek()?;
    Some(format!("{what}: {}", list(all)))
}

/// `a`, `b` and so on, in backticks.
pub(super) fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

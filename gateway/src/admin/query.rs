//! What a request to the admin listener says in its target.

/// The parameters of a query, each with its value, which is empty where it has none.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Takes a query apart.
    ///
    /// # Errors
    /// What is wrong with it: a parameter that is not `known`, is there twice, or is no text.
    pub(super) fn of(query: &[u8], known: &[&str]) -> Result<Self, String> {
        let mut found: Vec<(String, String)> = Vec::new();
        let text = std::str::from_utf8(query).map_err(|_| "the query is not text".to_owned())?;
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                return Err(format!("`{part}` is not what can stand in a query"));
            };
            if !known.contains(&&*name) {
                let known = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                let known = if known.is_empty() { "there is none here".to_owned() } else { format!("known: {known}") };
                return Err(format!("`{name}` is not a parameter ({known})"));
            }
            if found.iter().any(|(earlier, _)| *earlier == name) {
                return Err(format!("`{name}` is there twice"));
            }
            found.push((name, value));
        }
        Ok(Self(found))
    }

    /// The value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// Whether a parameter says yes: by being there, or in words.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn says(&self, name: &str) -> Result<bool, String> {
        match self.get(name) {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(other) => Err(format!("`{name}` is `{other}`, expected `true` or `false`")),
        }
    }
}

/// Text behind percent signs (RFC 3986 §2.1). `None`: it is none.
pub(super) fn decode(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                bytes.push(digit(*high)? << 4 | digit(*low)?);
                tail
            }
            (b'%', _) => return None,
            (byte, tail) => {
                bytes.push(*byte);
                tail
            }
        };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_servers_come_through_a_path() {
        assert_eq!(decode("unix%3A%2Frun%2Fapp.sock").as_deref(), Some("unix:/run/app.sock"));
        assert_eq!(decode("127.0.0.1:8000").as_deref(), Some("127.0.0.1:8000"));
        for broken in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_query_says_what_it_says_or_is_wrong() {
        let query = Query::of(b"force&retry_after=%360", &["force", "retry_after"]).unwrap();
        assert_eq!((query.get("retry_after"), query.says("force")), (Some("60"), Ok(true)));
        assert_eq!(Query::of(b"", &[]).unwrap().says("force"), Ok(false));
        for (text, force) in [("force=1", true), ("force=true", true), ("force=0", false), ("force=false", false)] {
            assert_eq!(Query::of(text.as_bytes(), &["force"]).unwrap().says("force"), Ok(force), "{text}");
        }
        assert!(Query::of(b"force=maybe", &["force"]).unwrap().says("force").is_err());
        for wrong in ["retry_after=%zz", "Force", "forse", "force&force=0", "force=1&x"] {
            assert!(Query::of(wrong.as_bytes(), &["force", "retry_after"]).is_err(), "{wrong}");
        }
        assert!(Query::of(b"\xff", &[]).is_err());
    }
}

//! Words about the admin listener.

use std::net::SocketAddr;

use super::{Invalid, Word};

/// Where the admin listener is; `None`: it has no address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdminAddress(pub(crate) Option<SocketAddr>);

impl Word for AdminAddress {
    const EXPECTED: &'static str = "an address and a port such as `127.0.0.1:9900`, or `off`";
    const PATTERN: &'static str = "^([0-9.]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$|^off$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        if text == "off" {
            return Ok(Self(None));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
            return Err(invalid.hint(format!("write `address: off` and `socket: {{path: {path}}}`")));
        }
        SocketAddr::from_text(text).map(|address| Self(Some(address)))
    }
}

/// The permissions of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileMode(pub(crate) u32);

impl Word for FileMode {
    const EXPECTED: &'static str = "permissions such as `\"0660\"`";
    const PATTERN: &'static str = "^0?[0-7]{3}$";

    fn from_number(number: u64) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("the number `{number}`"));
        // YAML reads `0o660` as 432, so that a small number may be either; a larger one has the digits that were meant.
        let digits = Some(format!("{number:04}")).filter(|digits| number > 0o777 && Self::from_text(digits).is_ok());
        let digits = digits.unwrap_or_else(|| "0660".to_owned());
        Err(invalid.hint(format!("write octal digits in quotes: `\"{digits}\"`")))
    }

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let mode = u32::from_str_radix(digits, 8).ok().filter(|_| matches!(digits.len(), 3 | 4));
        mode.filter(|mode| *mode <= 0o777).map(Self).ok_or_else(|| Invalid::expected::<Self>(&format!("`{text}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_octal() {
        assert_eq!(FileMode::from_text("0660").unwrap(), FileMode(0o660));
        assert_eq!(FileMode::from_text("600").unwrap(), FileMode(0o600));
        for wrong in ["", "66", "0888", "rw-rw----", "1777", "07777"] {
            assert!(FileMode::from_text(wrong).is_err(), "{wrong}");
        }
        let hint = |number| FileMode::from_number(number).unwrap_err().to_string();
        for (number, digits) in [(660, "0660"), (600, "0600"), (0o660, "0660"), (0o644, "0660"), (888, "0660")] {
            assert!(hint(number).contains(&format!("`\"{digits}\"`")), "{}", hint(number));
        }
        assert!(!hint(0o660).contains("\"432\""));
        assert!(matches!(AdminAddress::from_text("off"), Ok(AdminAddress(None))));
        assert!(AdminAddress::from_text("unix:/run/x.sock").is_err());
    }
}

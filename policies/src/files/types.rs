//! Media types by the ending of a name.

/// What a file is of whose name nobody knows the ending.
pub const DEFAULT: &str = "application/octet-stream";

/// Endings in lower case and their types: those of nginx's `mime.types`, and what has come since. Sorted.
const TABLE: &[(&str, &str)] = &[
    ("3gp", "video/3gpp"),
    ("3gpp", "video/3gpp"),
    ("7z", "application/x-7z-compressed"),
    ("aac", "audio/aac"),
    ("ai", "application/postscript"),
    ("asf", "video/x-ms-asf"),
    ("asx", "video/x-ms-asf"),
    ("atom", "application/atom+xml"),
    ("avi", "video/x-msvideo"),
    ("avif", "image/avif"),
    ("bin", "application/octet-stream"),
    ("bmp", "image/x-ms-bmp"),
    ("cco", "application/x-cocoa"),
    ("cjs", "text/javascript"),
    ("crt", "application/x-x509-ca-cert"),
    ("css", "text/css"),
    ("csv", "text/csv"),
    ("deb", "application/octet-stream"),
    ("der", "application/x-x509-ca-cert"),
    ("dll", "application/octet-stream"),
    ("dmg", "application/octet-stream"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("ear", "application/java-archive"),
    ("eot", "application/vnd.ms-fontobject"),
    ("eps", "application/postscript"),
    ("epub", "application/epub+zip"),
    ("exe", "application/octet-stream"),
    ("flac", "audio/flac"),
    ("flv", "video/x-flv"),
    ("geojson", "application/geo+json"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("hqx", "application/mac-binhex40"),
    ("htc", "text/x-component"),
    ("htm", "text/html"),
    ("html", "text/html"),
    ("ico", "image/x-icon"),
    ("ics", "text/calendar"),
    ("img", "application/octet-stream"),
    ("iso", "application/octet-stream"),
    ("jad", "text/vnd.sun.j2me.app-descriptor"),
    ("jar", "application/java-archive"),
    ("jardiff", "application/x-java-archive-diff"),
    ("jng", "image/x-jng"),
    ("jnlp", "application/x-java-jnlp-file"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript"),
    ("json", "application/json"),
    ("jsonld", "application/ld+json"),
    ("jxl", "image/jxl"),
    ("kar", "audio/midi"),
    ("kml", "application/vnd.google-earth.kml+xml"),
    ("kmz", "application/vnd.google-earth.kmz"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/x-m4a"),
    ("m4v", "video/x-m4v"),
    ("map", "application/json"),
    ("md", "text/markdown"),
    ("mid", "audio/midi"),
    ("midi", "audio/midi"),
    ("mjs", "text/javascript"),
    ("mkv", "video/x-matroska"),
    ("mml", "text/mathml"),
    ("mng", "video/x-mng"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("mpeg", "video/mpeg"),
    ("mpg", "video/mpeg"),
    ("msi", "application/octet-stream"),
    ("msm", "application/octet-stream"),
    ("msp", "application/octet-stream"),
    ("odg", "application/vnd.oasis.opendocument.graphics"),
    ("odp", "application/vnd.oasis.opendocument.presentation"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("opus", "audio/ogg"),
    ("otf", "font/otf"),
    ("pdb", "application/x-pilot"),
    ("pdf", "application/pdf"),
    ("pem", "application/x-x509-ca-cert"),
    ("pl", "application/x-perl"),
    ("pm", "application/x-perl"),
    ("png", "image/png"),
    ("ppt", "application/vnd.ms-powerpoint"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("prc", "application/x-pilot"),
    ("ps", "application/postscript"),
    ("ra", "audio/x-realaudio"),
    ("rar", "application/x-rar-compressed"),
    ("rpm", "application/x-redhat-package-manager"),
    ("rss", "application/rss+xml"),
    ("rtf", "application/rtf"),
    ("run", "application/x-makeself"),
    ("sea", "application/x-sea"),
    ("shtml", "text/html"),
    ("sit", "application/x-stuffit"),
    ("svg", "image/svg+xml"),
    ("svgz", "image/svg+xml"),
    ("swf", "application/x-shockwave-flash"),
    ("tar", "application/x-tar"),
    ("tcl", "application/x-tcl"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("tk", "application/x-tcl"),
    ("ts", "video/mp2t"),
    ("ttc", "font/collection"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain"),
    ("vtt", "text/vtt"),
    ("war", "application/java-archive"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("wbmp", "image/vnd.wap.wbmp"),
    ("weba", "audio/webm"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("wml", "text/vnd.wap.wml"),
    ("wmlc", "application/vnd.wap.wmlc"),
    ("wmv", "video/x-ms-wmv"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xhtml", "application/xhtml+xml"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("xml", "text/xml"),
    ("xpi", "application/x-xpinstall"),
    ("xspf", "application/xspf+xml"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zip", "application/zip"),
    ("zst", "application/zstd"),
];

/// The longest ending in the table.
const LONGEST: usize = 11;

/// Types of one's own, and of everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Types {
    /// Endings in lower case, without the dot, and what they mean here; they come before the table.
    pub own: Box<[(Box<str>, Box<str>)]>,
}

impl Types {
    /// The type of the file with this name.
    pub fn of(&self, name: &[u8]) -> &str {
        let last = name.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let ending = match memchr::memrchr(b'.', last) {
            Some(dot) => last.get(dot + 1..).unwrap_or_default(),
            None => return DEFAULT,
        };
        if let Some((_, own)) = self.own.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(ending)) {
            return own;
        }
        let mut lower = [0; LONGEST];
        let Some(lower) = lower.get_mut(..ending.len()) else { return DEFAULT };
        lower.copy_from_slice(ending);
        lower.make_ascii_lowercase();
        TABLE
            .binary_search_by(|(known, _)| known.as_bytes().cmp(lower))
            .map_or(DEFAULT, |at| TABLE.get(at).map_or(DEFAULT, |(_, kind)| kind))
    }
}

/// Whether a type is one of text that says nothing about its characters: it gets `charset=utf-8`.
pub fn lacks_charset(kind: &str) -> bool {
    kind.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("text/")) && !kind.contains(';')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_ending_is_found() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (ending, kind) in TABLE {
            assert!(
                ending.len() <= LONGEST
                    && ending.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            );
            assert_eq!(Types::default().of(format!("a/b.min.{}", ending.to_uppercase()).as_bytes()), *kind);
        }
        assert!(TABLE.len() > 120);
    }

    #[test]
    fn what_is_not_known_is_bytes() {
        for name in ["README", "a.unknown", "a.", "", "a.css/b", "a.averyverylongending", ".gitignore"] {
            assert_eq!(Types::default().of(name.as_bytes()), DEFAULT, "{name}");
        }
    }

    #[test]
    fn ones_own_come_first() {
        let own = Types {
            own: Box::new([("glb".into(), "model/gltf-binary".into()), ("js".into(), "application/javascript".into())]),
        };
        assert_eq!(own.of(b"a.glb"), "model/gltf-binary");
        assert_eq!(own.of(b"a.JS"), "application/javascript");
        assert_eq!(own.of(b"a.css"), "text/css");
    }

    #[test]
    fn text_is_said_to_be_utf_8() {
        assert!(lacks_charset("text/css") && lacks_charset("text/javascript"));
        assert!(
            !lacks_charset("text/css; charset=latin1")
                && !lacks_charset("image/png")
                && !lacks_charset("application/json")
        );
    }
}

//! Certificates as text, for a library that reads nothing else (RFC 7468).

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// One after the other.
pub(super) fn certificates(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for certificate in certificates {
        push(&mut out, "CERTIFICATE", certificate);
    }
    out
}

/// A key.
pub(super) fn key(key: &PrivateKeyDer<'_>) -> Vec<u8> {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    let mut out = Vec::new();
    push(&mut out, label, key.secret_der());
    out
}

fn push(out: &mut Vec<u8>, label: &str, der: &[u8]) {
    out.extend_from_slice(format!("-----BEGIN {label}-----").as_bytes());
    for (index, chunk) in der.chunks(3).enumerate() {
        if index % 16 == 0 {
            out.push(b'\n');
        }
        let mut bits = 0_u32;
        for position in 0..3 {
            bits = bits << 8 | chunk.get(position).copied().map_or(0, u32::from);
        }
        for position in 0..4 {
            let sextet = (bits >> (18 - 6 * position)) & 63;
            let letter = usize::try_from(sextet).ok().and_then(|sextet| ALPHABET.get(sextet)).copied();
            out.push(if position > chunk.len() { b'=' } else { letter.unwrap_or(b'=') });
        }
    }
    out.extend_from_slice(format!("\n-----END {label}-----\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for length in [0_usize, 1, 2, 3, 47, 48, 49, 500] {
            let der: Vec<u8> = (0..length).map(|byte| u8::try_from(byte * 7 % 256).unwrap()).collect();
            let text = certificates(&[der.clone().into(), der.clone().into()]);
            let found: Vec<_> = CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().unwrap();
            assert_eq!(found.len(), 2);
            assert!(found.iter().all(|found| found.as_ref() == der), "{length}");
        }
    }
}

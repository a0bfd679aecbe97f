//! HKDF-SHA-512 (RFC 5869), through the crates hkdf and sha2, which wipe their states.

use hkdf::Hkdf;
use sha2::Sha512;

use super::secret::Secret;

/// `HKDF(0, ikm, info, 64)`, for each `info`.
pub(crate) fn derive<const K: usize>(ikm: &[u8], infos: [&[&[u8]]; K]) -> [Secret<64>; K] {
    let hkdf = Hkdf::<Sha512>::new(None, ikm);
    infos.map(|info| {
        let mut block = Secret::new([0; 64]);
        hkdf.expand_multi_info(info, block.expose_mut()).expect("64 bytes are one hash");
        block
    })
}

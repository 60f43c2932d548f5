//! IDX, the file format of MNIST: a magic number, big-endian extents, raw elements.

use std::{
    fs::File,
    io::{BufReader, ErrorKind, Read, Seek, SeekFrom},
    path::Path,
};

use flate2::read::MultiGzDecoder;

use crate::error::{Error, Result};

const OP: &str = "Idx::read";

/// No data set in this format comes near it; a file that claims more is not one.
const LIMIT: u64 = 1 << 32;

/// The array of an IDX file of unsigned bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx {
    /// Extents, slowest first.
    pub shape: Vec<usize>,
    /// Elements in row-major order.
    pub bytes: Vec<u8>,
}

impl Idx {
    /// Reads a file of unsigned bytes with `rank` extents, gzipped or not (its first bytes tell).
    ///
    /// Memory grows with what the file really holds: one that only claims to be large fails cheaply.
    ///
    /// # Errors
    /// [`Error::File`] for a file that cannot be read, is not IDX, has elements of another type or another rank, holds more or
    /// less than its extents say, or is a damaged gzip; [`Error::OutOfMemory`].
    pub fn read(path: impl AsRef<Path>, rank: usize) -> Result<Self> {
        let path = path.as_ref();
        let wrong = |reason: String| Error::file(OP, path, reason);
        let io = |error: std::io::Error| wrong(error.to_string());

        let mut file = BufReader::new(File::open(path).map_err(io)?);
        let mut start = [0; 2];
        let gzipped = match file.read_exact(&mut start) {
            Ok(()) => start == [0x1f, 0x8b],
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => false,
            Err(error) => return Err(io(error)),
        };
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        let reader: &mut dyn Read = if gzipped { &mut MultiGzDecoder::new(file) } else { &mut file };
        parse(reader, rank).map_err(|fault| match fault {
            Fault::Reason(reason) => wrong(reason),
            Fault::Memory(bytes) => Error::OutOfMemory { op: OP, bytes, device: "cpu".into() },
        })
    }
}

enum Fault {
    Reason(String),
    Memory(usize),
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Fault::Reason(reason)
    }
}

fn parse(reader: &mut dyn Read, rank: usize) -> Result<Idx, Fault> {
    let magic = take(reader, 4)?;
    let &[0, 0, kind, extents] = magic.as_slice() else {
        return Err(if magic.len() < 4 {
            format!("{} bytes, want at least the 4 of an IDX magic number", magic.len()).into()
        } else {
            format!("not an IDX file: it starts with {magic:02x?}, want [00, 00, 08, {rank:02x}]").into()
        });
    };
    if kind != 0x08 {
        let name = match kind {
            0x09 => "signed bytes",
            0x0b => "16-bit integers",
            0x0c => "32-bit integers",
            0x0d => "32-bit floats",
            0x0e => "64-bit floats",
            _ => "no type of IDX",
        };
        return Err(format!("elements of type {kind:#04x} ({name}), want 0x08 (unsigned bytes)").into());
    }
    if usize::from(extents) != rank {
        return Err(format!("{extents} extents, want {rank}").into());
    }
    let header = take(reader, 4 * rank)?;
    if header.len() < 4 * rank {
        return Err(format!("ends within its header: {} bytes of extents, want {}", header.len(), 4 * rank).into());
    }
    let shape: Vec<u32> = header.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
    let claimed = shape
        .iter()
        .try_fold(1u64, |product, &n| product.checked_mul(n.into()))
        .filter(|&bytes| bytes <= LIMIT)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| format!("claims extents {shape:?}, more than {LIMIT} elements"))?;

    // One byte more than claimed: it shows that something follows, and lets gzip check its sum.
    let bytes = take(reader, claimed.saturating_add(1))?;
    if bytes.len() < claimed {
        return Err(format!("truncated: {} bytes of data, want {claimed} for extents {shape:?}", bytes.len()).into());
    }
    if bytes.len() > claimed {
        return Err(format!("trailing data after the {claimed} bytes of extents {shape:?}").into());
    }
    Ok(Idx { shape: shape.into_iter().map(|n| n as usize).collect(), bytes })
}

/// Up to `count` bytes, fewer where the file ends. Never reserves more than twice what has been read.
fn take(reader: &mut dyn Read, count: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        let start = bytes.len();
        let next = (count - start).min(start.max(1 << 16));
        bytes.try_reserve_exact(next).map_err(|_| Fault::Memory(start + next))?;
        let got = reader.take(next as u64).read_to_end(&mut bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => "truncated gzip stream".to_string(),
            _ => error.to_string(),
        })?;
        if got < next {
            break;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn idx(shape: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, shape.len() as u8];
        shape.iter().for_each(|n| bytes.extend(n.to_be_bytes()));
        bytes.extend(data);
        bytes
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8], rank: usize) -> Result<Idx> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.idx");
        std::fs::write(&path, bytes).unwrap();
        Idx::read(path, rank)
    }

    fn reason(bytes: &[u8], rank: usize) -> String {
        match read(bytes, rank) {
            Err(Error::File { path, reason, .. }) => {
                assert!(path.ends_with("file.idx"));
                reason
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn plain_and_gzipped() {
        let bytes = idx(&[2, 3], &[1, 2, 3, 4, 5, 6]);
        let want = Idx { shape: vec![2, 3], bytes: vec![1, 2, 3, 4, 5, 6] };
        assert_eq!(read(&bytes, 2).unwrap(), want);
        assert_eq!(read(&gz(&bytes), 2).unwrap(), want);
        assert_eq!(read(&idx(&[0], &[]), 1).unwrap(), Idx { shape: vec![0], bytes: vec![] });
    }

    #[test]
    fn malformed() {
        for (bytes, rank, want) in [
            (vec![], 1, "0 bytes, want at least the 4"),
            (vec![0, 0, 8], 1, "3 bytes"),
            (b"PNG and so on".to_vec(), 1, "not an IDX file"),
            (idx(&[2], &[1, 2]), 3, "1 extents, want 3"),
            (vec![0, 0, 0x0d, 1, 0, 0, 0, 0], 1, "type 0x0d (32-bit floats)"),
            (vec![0, 0, 8, 2, 0, 0, 0, 1, 0], 2, "within its header: 5 bytes of extents, want 8"),
            (idx(&[3], &[1, 2]), 1, "truncated: 2 bytes of data, want 3"),
            (idx(&[2], &[1, 2, 3]), 1, "trailing data"),
            (idx(&[u32::MAX; 3], &[1]), 3, "claims extents"),
            (idx(&[u32::MAX], &[1]), 1, "truncated: 1 bytes"),
        ] {
            for bytes in [gz(&bytes), bytes] {
                let got = reason(&bytes, rank);
                assert!(got.contains(want), "{got:?} has not {want:?}");
            }
        }
    }

    #[test]
    fn damaged_gzip() {
        let whole = gz(&idx(&[4], &[1, 2, 3, 4]));
        assert!(reason(&whole[..whole.len() - 3], 1).contains("truncated"));
        let mut sum = whole.clone();
        let at = sum.len() - 6;
        sum[at] ^= 1;
        assert!(reason(&sum, 1).contains("corrupt"));
    }

    /// A megabyte of zeros for every kilobyte, stopped at the size that the header claims.
    #[test]
    fn bomb_stops() {
        let bomb = gz(&idx(&[10], &vec![0; 64 << 20]));
        assert!(bomb.len() < 1 << 20);
        assert!(reason(&bomb, 1).contains("trailing data after the 10 bytes"));
    }

    #[test]
    fn missing_file_and_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Idx::read(folder.path().join("none"), 1), Err(Error::File { .. })));
        assert!(matches!(Idx::read(folder.path(), 1), Err(Error::File { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn noise_is_an_error_or_an_array(bytes in proptest::collection::vec(any::<u8>(), 0..200), rank in 0usize..4) {
            for bytes in [gz(&bytes), [&[0x1f, 0x8b][..], &bytes].concat(), [&[0, 0, 8, rank as u8][..], &bytes].concat(), bytes] {
                if let Ok(array) = read(&bytes, rank) {
                    prop_assert_eq!(array.shape.iter().product::<usize>(), array.bytes.len());
                }
            }
        }

        #[test]
        fn every_truncation_is_an_error(data in proptest::collection::vec(any::<u8>(), 1..100), part in 0.0..1.0f64) {
            let plain = idx(&[data.len() as u32], &data);
            for whole in [gz(&plain), plain] {
                prop_assert!(read(&whole, 1).is_ok());
                prop_assert!(read(&whole[..(whole.len() as f64 * part) as usize], 1).is_err());
            }
        }
    }
}

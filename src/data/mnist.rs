//! MNIST and data sets of its form.

use std::path::{Path, PathBuf};

use super::Idx;
use crate::{
    device::Device,
    error::{Error, Result},
    tensor::Tensor,
};

const OP: &str = "Mnist::load";

/// Pixels to a side.
const SIDE: usize = 28;

/// Images of handwritten digits, to train on and to test with.
#[derive(Debug, Clone)]
pub struct Mnist {
    /// To train on.
    pub train: Digits,
    /// To test with.
    pub test: Digits,
}

/// Images and what they show.
#[derive(Debug, Clone)]
pub struct Digits {
    /// `(N, 28, 28)`, f32 on the CPU: bytes over 255, less 0.5, over 0.5, so from −1 to 1.
    pub images: Tensor,
    /// `(N)`, int64 in 0..10.
    pub labels: Tensor,
}

impl Mnist {
    /// Reads the four IDX files of a folder, gzipped or not: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same of
    /// `t10k`, also with a dot before `idx`, or named `train10k` and `test2k` as the excerpt in this repository is.
    ///
    /// # Errors
    /// [`Error::File`] where a file is missing or malformed, images are not of 28 by 28 pixels, images and labels differ in number,
    /// or a label is not a digit.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        Ok(Mnist {
            train: Digits::load(folder, &["train", "train10k"])?,
            test: Digits::load(folder, &["t10k", "test2k"])?,
        })
    }
}

impl Digits {
    fn load(folder: &Path, prefixes: &[&str]) -> Result<Self> {
        let (prefix, path) = prefixes
            .iter()
            .find_map(|prefix| Some((prefix, find(folder, prefix, "images", 3)?)))
            .ok_or_else(|| missing(folder, prefixes[0], "images", 3))?;
        let images = Idx::read(&path, 3)?;
        let count = images.shape[0];
        if images.shape[1..] != [SIDE, SIDE] || count == 0 {
            return Err(Error::file(OP, path, format!("images of shape {:?}, want (N, 28, 28), N > 0", images.shape)));
        }
        let path = find(folder, prefix, "labels", 1).ok_or_else(|| missing(folder, prefix, "labels", 1))?;
        let labels = Idx::read(&path, 1)?.bytes;
        if labels.len() != count {
            return Err(Error::file(OP, path, format!("{} labels, want {count}, one for each image", labels.len())));
        }
        if let Some((i, label)) = labels.iter().enumerate().find(|(_, label)| **label > 9) {
            return Err(Error::file(OP, path, format!("label {i} is {label}, want a digit")));
        }
        let images: Vec<f32> = images.bytes.iter().map(|&byte| (f32::from(byte) / 255.0 - 0.5) / 0.5).collect();
        let labels: Vec<i64> = labels.into_iter().map(i64::from).collect();
        Ok(Digits {
            images: Tensor::from_slice(&images, [count, SIDE, SIDE], &Device::Cpu)?,
            labels: Tensor::from_slice(&labels, [count], &Device::Cpu)?,
        })
    }

    /// How many there are; never 0.
    #[expect(clippy::len_without_is_empty, reason = "there is no empty one")]
    pub fn len(&self) -> usize {
        self.labels.numel()
    }

    /// The images `(B, 28, 28)` and labels `(B)` of some indices.
    ///
    /// # Errors
    /// [`Error::Argument`] for an index that is not there.
    pub fn batch(&self, indices: &[usize], device: &Device) -> Result<(Tensor, Tensor)> {
        let indices: Vec<i64> = indices.iter().map(|&i| i as i64).collect();
        let indices = Tensor::from_slice(&indices, [indices.len()], &Device::Cpu)?;
        let take = |from: &Tensor| from.index_select(0, &indices)?.to_device(device);
        Ok((take(&self.images)?, take(&self.labels)?))
    }
}

fn find(folder: &Path, prefix: &str, what: &str, rank: usize) -> Option<PathBuf> {
    let names =
        ["-", "."].into_iter().flat_map(|dot| ["", ".gz"].map(|gz| format!("{prefix}-{what}{dot}idx{rank}-ubyte{gz}")));
    names.map(|name| folder.join(name)).find(|path| path.exists())
}

fn missing(folder: &Path, prefix: &str, what: &str, rank: usize) -> Error {
    Error::file(OP, folder, format!("no {prefix}-{what}-idx{rank}-ubyte in it, nor one that ends in .gz"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn idx(shape: &[u32], byte: impl Fn(usize) -> u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, shape.len() as u8];
        shape.iter().for_each(|n| bytes.extend(n.to_be_bytes()));
        bytes.extend((0..shape.iter().product::<u32>() as usize).map(byte));
        bytes
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (prefix, count) in [("train", 3), ("t10k", 2)] {
            let images = idx(&[count, 28, 28], |i| if i == 0 { 255 } else { 0 });
            fs::write(folder.path().join(format!("{prefix}-images.idx3-ubyte")), images).unwrap();
            fs::write(folder.path().join(format!("{prefix}-labels-idx1-ubyte")), idx(&[count], |i| i as u8)).unwrap();
        }
        folder
    }

    fn reason(folder: &Path) -> String {
        match Mnist::load(folder) {
            Err(Error::File { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn loads_and_batches() {
        let folder = folder();
        let mnist = Mnist::load(folder.path()).unwrap();
        assert_eq!((mnist.train.len(), mnist.test.len()), (3, 2));
        let (images, labels) = mnist.train.batch(&[2, 0], &Device::Cpu).unwrap();
        assert_eq!(images.dims(), [2, 28, 28]);
        assert_eq!(labels.to_vec::<i64>().unwrap(), [2, 0]);
        let pixels = images.to_vec::<f32>().unwrap();
        assert_eq!((pixels[0], pixels[784], pixels[785]), (-1.0, 1.0, -1.0));
        assert!(mnist.test.batch(&[2], &Device::Cpu).is_err());
    }

    #[test]
    fn the_excerpt_of_this_repository() {
        let mnist = Mnist::load(concat!(env!("CARGO_MANIFEST_DIR"), "/data/mnist")).unwrap();
        assert_eq!((mnist.train.len(), mnist.test.len()), (10_000, 2_000));
        assert_eq!(mnist.train.labels.to_vec::<i64>().unwrap()[..5], [5, 0, 4, 1, 9]);
    }

    #[test]
    fn refuses() {
        let folder = folder();
        let labels = folder.path().join("t10k-labels-idx1-ubyte");
        fs::write(&labels, idx(&[3], |_| 0)).unwrap();
        assert_eq!(reason(folder.path()), "3 labels, want 2, one for each image");
        fs::write(&labels, idx(&[2], |_| 10)).unwrap();
        assert_eq!(reason(folder.path()), "label 0 is 10, want a digit");
        fs::remove_file(&labels).unwrap();
        assert!(reason(folder.path()).contains("no t10k-labels-idx1-ubyte"));
        let images = folder.path().join("train-images.idx3-ubyte");
        fs::write(&images, idx(&[3, 20, 20], |_| 0)).unwrap();
        assert!(reason(folder.path()).contains("images of shape [3, 20, 20]"));
        fs::write(&images, idx(&[0, 28, 28], |_| 0)).unwrap();
        assert!(reason(folder.path()).contains("images of shape [0, 28, 28]"));
        assert!(reason(&folder.path().join("nowhere")).contains("no train-images-idx3-ubyte"));
    }
}

//! `Embedding`.

use std::fmt;

use crate::{
    device::Device,
    dtype::DType,
    error::{Error, Result},
    nn::{Module, Training},
    rng::Philox,
    tape::{Parameter, Tape, Var},
    tensor::Tensor,
};

const OP: &str = "Embedding";

/// Settings of [`Embedding`].
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingConfig {
    num_embeddings: usize,
    embedding_dim: usize,
    padding_idx: Option<i64>,
    dtype: DType,
}

impl EmbeddingConfig {
    /// The row of padding: zero at first, and without a gradient. Counts from the end if negative.
    pub fn padding_idx(mut self, index: i64) -> Self {
        self.padding_idx = Some(index);
        self
    }

    /// Type of the parameters; f32 at first.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// The module, its rows standard normal, the padding row zero.
    ///
    /// # Errors
    /// No rows or columns, a `padding_idx` outside the rows, an integer dtype, a device that is not there.
    pub fn init(self, device: &Device, rng: &mut Philox) -> Result<Embedding> {
        let EmbeddingConfig { num_embeddings, embedding_dim, padding_idx, dtype } = self;
        if num_embeddings == 0 || embedding_dim == 0 {
            return Err(Error::argument(OP, format!("{num_embeddings} rows of {embedding_dim}"), "at least one"));
        }
        if !dtype.is_float() {
            return Err(Error::dtype("Embedding", dtype, "a floating-point dtype"));
        }
        let mut weight = Tensor::normal([num_embeddings, embedding_dim], 0.0, 1.0, dtype, device, rng)?;
        let padding = padding_idx.map(|i| row(i, num_embeddings)).transpose()?;
        if let Some(i) = padding {
            let zeros = Tensor::zeros([1, embedding_dim], dtype, device)?;
            let (before, after) = (weight.narrow(0, 0, i)?, weight.narrow(0, i + 1, num_embeddings - i - 1)?);
            weight = Tensor::concat(&[&before, &zeros, &after], 0)?;
        }
        Ok(Embedding {
            weight: Parameter::new(weight),
            padding,
            num_embeddings,
            embedding_dim,
            training: Training::new(),
        })
    }
}

/// Rows of a table by integers: PyTorch's `nn.Embedding`.
///
/// ```
/// use gatefold::{Device, Philox, Tape, Tensor, nn::Embedding};
/// let (device, mut rng) = (Device::Cpu, Philox::seed(1));
/// let embedding = Embedding::new(9, 6).padding_idx(0).init(&device, &mut rng)?;
/// // Two sentences, the second one filled up.
/// let words = Tensor::from_slice(&[4i64, 7, 1, 3, 0, 0], [2, 3], &device)?;
/// let y = embedding.forward(&Tape::new(), &words)?;
/// assert_eq!(y.dims(), [2, 3, 6]);
/// assert_eq!(y.to_vec::<f32>()?[4 * 6..], [0.0; 12]);
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug)]
pub struct Embedding {
    weight: Parameter,
    padding: Option<usize>,
    num_embeddings: usize,
    embedding_dim: usize,
    training: Training,
}

impl Embedding {
    /// Settings for `num_embeddings` rows of `embedding_dim`.
    #[expect(clippy::new_ret_no_self, reason = "a configuration becomes a module by init()")]
    pub fn new(num_embeddings: usize, embedding_dim: usize) -> EmbeddingConfig {
        EmbeddingConfig { num_embeddings, embedding_dim, padding_idx: None, dtype: DType::F32 }
    }

    /// An embedding of given rows `(num_embeddings, embedding_dim)`, such as word vectors; with `freeze` they are not learned.
    ///
    /// # Errors
    /// A tensor that is not of rank 2, has no elements, or is not of floats.
    pub fn from_pretrained(weight: Tensor, freeze: bool) -> Result<Self> {
        weight.expect_float(OP)?;
        let (num_embeddings, embedding_dim) = match *weight.dims() {
            [rows, width] if rows > 0 && width > 0 => (rows, width),
            _ => return Err(Error::shape(OP, weight.shape(), "(num_embeddings, embedding_dim)")),
        };
        let weight = Parameter::new(weight);
        weight.set_requires_grad(!freeze);
        Ok(Embedding { weight, padding: None, num_embeddings, embedding_dim, training: Training::new() })
    }

    /// Names the row of padding, which then gets no gradient; its value stays.
    ///
    /// # Errors
    /// An index outside the rows.
    pub fn with_padding_idx(mut self, index: i64) -> Result<Self> {
        self.padding = Some(row(index, self.num_embeddings)?);
        Ok(self)
    }

    /// The table `(num_embeddings, embedding_dim)`.
    pub fn weight(&self) -> &Parameter {
        &self.weight
    }

    /// The row of padding, counted from the start.
    pub fn padding_idx(&self) -> Option<usize> {
        self.padding
    }

    /// The rows of `indices` (int64 or uint32, of any shape): `indices.shape() + (embedding_dim,)`.
    ///
    /// # Errors
    /// An index outside the rows, indices of a float type or on another device.
    pub fn forward(&self, tape: &Tape, indices: &Tensor) -> Result<Var> {
        tape.parameter(&self.weight).embedding(indices, self.padding.map(|i| i as i64))
    }
}

/// A row that may count from the end.
fn row(index: i64, rows: usize) -> Result<usize> {
    let from_start = if index < 0 { index + rows as i64 } else { index };
    usize::try_from(from_start)
        .ok()
        .filter(|&i| i < rows)
        .ok_or_else(|| Error::argument(OP, format!("padding_idx = {index}"), format!("a row of {rows}")))
}

impl Module for Embedding {
    fn children(&self) -> Vec<(&str, &dyn Module)> {
        Vec::new()
    }

    fn own_parameters(&self) -> Vec<(String, Parameter)> {
        vec![("weight".into(), self.weight.clone())]
    }

    fn training(&self) -> Option<&Training> {
        Some(&self.training)
    }

    fn repr(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Embedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Embedding({}, {}", self.num_embeddings, self.embedding_dim)?;
        if let Some(padding) = self.padding {
            write!(f, ", padding_idx={padding}")?;
        }
        f.write_str(")")
    }
}

//! The one error type of the crate.
//!
//! ```
//! use gatefold::{Device, Error, Tape, Tensor};
//! let tape = Tape::new();
//! let [a, b] = [[2, 3], [2, 4]].map(|shape| Tensor::zeros(shape, gatefold::DType::F32, &Device::Cpu));
//! match tape.variable(a?).matmul(&tape.constant(b?)) {
//!     Err(Error::Shape { op, got, want }) => println!("{op} was given {got} and wants {want}"),
//!     other => panic!("{other:?}"),
//! }
//! # Ok::<(), gatefold::Error>(())
//! ```

use std::path::PathBuf;

/// The result of everything in the crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, what was given and what was wanted.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A tensor, slice or index has the wrong shape, rank or length.
    #[error("{op}: wrong shape: got {got}, want {want}")]
    Shape {
        /// The operation that refused.
        op: &'static str,
        /// What it was given.
        got: String,
        /// What it accepts.
        want: String,
    },
    /// A tensor has the wrong element type.
    #[error("{op}: wrong dtype: got {got}, want {want}")]
    DType {
        /// The operation that refused.
        op: &'static str,
        /// What it was given.
        got: String,
        /// What it accepts.
        want: String,
    },
    /// Tensors lie on different devices, or on one where the operation does not run.
    #[error("{op}: wrong device: got {got}, want {want}")]
    Device {
        /// The operation that refused.
        op: &'static str,
        /// What it was given.
        got: String,
        /// What it accepts.
        want: String,
    },
    /// A setting or a value is outside what the operation accepts.
    #[error("{op}: invalid argument: got {got}, want {want}")]
    Argument {
        /// The operation that refused.
        op: &'static str,
        /// What it was given.
        got: String,
        /// What it accepts.
        want: String,
    },
    /// The tape cannot do what was asked: consumed, foreign, or nothing recorded.
    #[error("{op}: {reason}")]
    Tape {
        /// The operation that refused.
        op: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// A state does not fit the module, optimizer or schedule: every key at fault, in one error.
    #[error("{op}: the state does not fit: missing {missing:?}, unexpected {unexpected:?}, misshaped {misshaped:?}")]
    StateDict {
        /// The operation that refused.
        op: &'static str,
        /// Keys that are wanted and that the state has not.
        missing: Vec<String>,
        /// Keys that the state has and nothing has a place for.
        unexpected: Vec<String>,
        /// Keys with another shape or dtype, as `name: got …, want …`.
        misshaped: Vec<String>,
    },
    /// A file could not be read, written or understood.
    #[error("{op}: {}: {reason}", path.display())]
    File {
        /// The operation that refused.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Memory could not be had.
    #[error("{op}: out of memory: {bytes} bytes on {device}")]
    OutOfMemory {
        /// The operation that asked.
        op: &'static str,
        /// How much it asked for.
        bytes: usize,
        /// Where.
        device: String,
    },
    /// The build or the machine lacks what was asked for.
    #[error("{op}: {what} is not available: {reason}")]
    Unavailable {
        /// The operation that refused.
        op: &'static str,
        /// What is missing.
        what: String,
        /// Why, and what to do.
        reason: String,
    },
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $variant:ident;)*) => {
        impl Error {$(
            $(#[$doc])*
            pub fn $name(op: &'static str, got: impl std::fmt::Display, want: impl std::fmt::Display) -> Self {
                Error::$variant { op, got: got.to_string(), want: want.to_string() }
            }
        )*}
    };
}

constructors! {
    /// An [`Error::Shape`].
    shape => Shape;
    /// An [`Error::DType`].
    dtype => DType;
    /// An [`Error::Device`].
    device => Device;
    /// An [`Error::Argument`].
    argument => Argument;
}

impl Error {
    /// An [`Error::Tape`].
    pub fn tape(op: &'static str, reason: impl Into<String>) -> Self {
        Error::Tape { op, reason: reason.into() }
    }

    /// An [`Error::File`].
    pub fn file(op: &'static str, path: impl Into<PathBuf>, reason: impl std::fmt::Display) -> Self {
        Error::File { op, path: path.into(), reason: reason.to_string() }
    }
}

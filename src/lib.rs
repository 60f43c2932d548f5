//! Recurrent networks (RNN, LSTM, GRU) with hand-written kernels, a small reverse-mode tape and optimizers.
#![deny(unsafe_code)]

mod capture;
mod cell;
pub mod device;
pub mod dtype;
pub mod error;
mod file;
mod kernel;
pub mod rng;
pub mod shape;

#[allow(unsafe_code, reason = "a backend: vector instructions and raw memory, each block with its reason")]
mod cpu;
#[cfg(feature = "cuda")]
#[allow(unsafe_code, reason = "a backend: calls into the driver, each block with its reason")]
mod cuda;
mod storage;

#[allow(unsafe_code, reason = "the raw layer: pointers of foreign frameworks")]
pub mod recurrent;

pub mod tape;
pub mod tensor;

pub mod ops;

pub mod nn;

pub mod loss;
pub mod optim;

pub mod data;
pub mod train;

pub use device::{Device, MemoryStats};
pub use dtype::DType;
pub use error::{Error, Result};
pub use loss::Reduction;
pub use rng::Philox;
pub use shape::Shape;
pub use tape::{HasParameters, Parameter, Tape, Var};
pub use tensor::Tensor;

/// The programs in the README are compiled and run with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

/// So are those beside PyTorch's.
#[cfg(doctest)]
#[doc = include_str!("../docs/from-pytorch.md")]
mod from_pytorch {}

//! Differentiable operations: a file per family, forward and backward side by side.

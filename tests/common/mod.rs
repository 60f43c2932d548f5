//! What integration tests share.

pub mod gradcheck;

//! Dropout.

use crate::{
    error::{Error, Result},
    storage,
    tape::Var,
    tensor::Tensor,
};

impl Var {
    /// Zeroes each element with probability `p` and scales the others by 1/(1 − p). The mask is that of `seed` and
    /// `stream`: the same on every device, and made again, not kept, for the backward.
    ///
    /// # Errors
    /// A `p` outside `[0, 1]`, an integer dtype.
    pub fn dropout(&self, p: f64, seed: u64, stream: u64) -> Result<Var> {
        const OP: &str = "dropout";
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::argument(OP, format!("p = {p}"), "a probability in [0, 1]"));
        }
        self.tensor().expect_float(OP)?;
        if p == 0.0 {
            return Ok(self.clone());
        }
        let mask = move |x: &Tensor| {
            let mut y = x.like(x.shape())?;
            if p == 1.0 {
                storage::fill(0.0, y.storage_mut()?)?;
            } else {
                storage::dropout(seed, stream, p, x.storage(), y.storage_mut()?)?;
            }
            Ok(y)
        };
        self.derive_one(OP, mask(self.tensor())?, move |dy| mask(&dy))
    }
}

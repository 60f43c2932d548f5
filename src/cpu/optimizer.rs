//! Optimizer steps in place.

use super::Buffer;
use crate::{error::Result, kernel::Update};

/// One step over one parameter.
pub fn update(_update: &Update, _parameter: &mut Buffer, _gradient: &Buffer, _state: &mut [&mut Buffer]) -> Result<()> {
    todo!()
}

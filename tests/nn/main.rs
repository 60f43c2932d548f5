//! The modules: shapes, names, printing, errors, equivalences, gradients, precision, state dicts, dropout.

#[path = "../common/gradcheck.rs"]
mod gradcheck;
#[path = "../common/nets.rs"]
mod nets;

mod dropout;
mod equivalences;
mod errors;
mod gradients;
mod kept;
mod modules;
mod packing;
mod precision;
mod shapes;
mod state;

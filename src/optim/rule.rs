//! What an algorithm tells the optimizer: its settings, its state, its formula.

use crate::{
    error::{Error, Result},
    kernel::Update,
};

/// A setting as the number that a state dict keeps.
pub trait Setting: Copy {
    fn number(self) -> f64;
    fn of(number: f64) -> Self;
}

impl Setting for f64 {
    fn number(self) -> f64 {
        self
    }
    fn of(number: f64) -> f64 {
        number
    }
}

impl Setting for bool {
    fn number(self) -> f64 {
        f64::from(u8::from(self))
    }
    fn of(number: f64) -> bool {
        number != 0.0
    }
}

/// The settings by name.
pub trait Settings {
    fn settings(&self) -> Vec<(&'static str, f64)>;
    /// `false` where there is no such setting.
    fn set(&mut self, name: &str, value: f64) -> bool;
    fn rate(&self) -> f64;
    fn rate_mut(&mut self) -> &mut f64;
    /// Whether f16 and bf16 parameters have masters.
    fn masters(&self) -> bool;
}

/// An optimization algorithm.
pub trait Rule: Settings + Clone + std::fmt::Debug + 'static {
    /// PyTorch's name.
    const NAME: &'static str;
    /// Every state tensor that it may keep of a parameter, with PyTorch's names, in the order of the kernel.
    const SLOTS: &'static [&'static str];

    /// Whether it keeps a slot under these settings.
    fn uses(&self, slot: usize) -> bool;

    /// What a slot starts at.
    fn initial(&self) -> f64 {
        0.0
    }

    /// The momentum, or what stands for it.
    fn momentum_mut(&mut self) -> Option<&mut f64>;

    /// `Err` for a setting outside its range.
    fn check(&self) -> Result<()>;

    /// Step number `step` (from 1); `fresh` when a slot was made for it.
    fn update(&self, step: u64, fresh: bool) -> Update;
}

/// Builder methods for the settings of an algorithm, their names for the state dict, and `over`.
macro_rules! settings {
    ([$($generics:tt)*] $type:ty; $($(#[$doc:meta])* $name:ident: $kind:ty,)*) => {
        impl<$($generics)*> $type {
            $($(#[$doc])*
            pub fn $name(mut self, $name: $kind) -> Self {
                self.$name = $name;
                self
            })*

            /// An optimizer of the parameters of some modules, as one group; a parameter that several share counts
            /// once.
            ///
            /// # Errors
            /// [`Error::Argument`](crate::Error::Argument) for a setting outside its range (here, not in the builder)
            /// and where there are no parameters; [`Error::DType`](crate::Error::DType) for a parameter of integers.
            pub fn over<const N: usize>(
                self,
                modules: [&dyn $crate::tape::HasParameters; N],
            ) -> $crate::error::Result<$crate::optim::Optimizer<Self>> {
                $crate::optim::Optimizer::over(self, &modules)
            }

            /// An optimizer of a list of parameters, as one group.
            ///
            /// # Errors
            /// As [`over`](Self::over), and for a parameter that is listed twice.
            pub fn over_parameters(
                self,
                parameters: impl IntoIterator<Item = $crate::tape::Parameter>,
            ) -> $crate::error::Result<$crate::optim::Optimizer<Self>> {
                $crate::optim::Optimizer::new(self, parameters)
            }
        }

        impl<$($generics)*> $crate::optim::rule::Settings for $type {
            fn settings(&self) -> Vec<(&'static str, f64)> {
                vec![$((stringify!($name), $crate::optim::rule::Setting::number(self.$name))),*]
            }
            fn set(&mut self, name: &str, value: f64) -> bool {
                match name {
                    $(stringify!($name) => self.$name = $crate::optim::rule::Setting::of(value),)*
                    _ => return false,
                }
                true
            }
            fn rate(&self) -> f64 {
                self.lr
            }
            fn rate_mut(&mut self) -> &mut f64 {
                &mut self.lr
            }
            fn masters(&self) -> bool {
                self.master_weights
            }
        }

        impl<$($generics)*> $crate::optim::Algorithm for $type {}
    };
}
pub(super) use settings;

/// `Err` unless all are finite and 0 or above.
pub fn not_negative(op: &'static str, settings: &[(&str, f64)]) -> Result<()> {
    each(op, settings, "a finite number of 0 or above", |v| v.is_finite() && v >= 0.0)
}

/// `Err` unless all are in `[0, 1)`.
pub fn below_one(op: &'static str, settings: &[(&str, f64)]) -> Result<()> {
    each(op, settings, "a number in [0, 1)", |v| (0.0..1.0).contains(&v))
}

fn each(op: &'static str, settings: &[(&str, f64)], want: &str, fits: impl Fn(f64) -> bool) -> Result<()> {
    match settings.iter().find(|(_, value)| !fits(*value)) {
        Some((name, value)) => Err(Error::argument(op, format!("{name} {value}"), want)),
        None => Ok(()),
    }
}

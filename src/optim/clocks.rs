//! Steps that the device counts: where it alone knows whether one was taken, and inside of a captured step, which the host does not
//! come by again. A clock is a count of steps and the numbers that the formula makes of it.

use crate::{
    capture,
    device::Device,
    dtype::DType,
    error::Result,
    kernel::{CLOCK, CLOCK_SETTINGS, Update},
    storage,
    tensor::Tensor,
};

/// A clock that a step wants: parameters of one formula, settings and number of steps have one.
pub struct Want {
    update: Update,
    /// The step's number, as far as the host knows.
    step: u64,
}

impl Want {
    /// Which clock such a step goes by; a new one where there is none.
    pub fn add(wants: &mut Vec<Want>, update: Update, step: u64) -> usize {
        let known = wants.iter().position(|want| want.update == update && want.step == step);
        known.unwrap_or_else(|| {
            wants.push(Want { update, step });
            wants.len() - 1
        })
    }
}

/// The clocks of one optimizer.
#[derive(Debug)]
pub struct Clocks {
    /// `[clocks, CLOCK_SETTINGS]` of f64 on the device, and what they hold.
    pub settings: Tensor,
    held: Vec<[f64; CLOCK_SETTINGS]>,
    /// `[clocks, CLOCK]` of f64.
    pub numbers: Tensor,
    /// The steps that they have counted, as far as the host knows; empty where the host has counted since.
    pub steps: Vec<u64>,
    /// Some of these may have been skipped.
    unsure: bool,
}

impl Clocks {
    /// Clocks that stand before the wanted steps: those of the last step, where they do.
    pub fn ready<'a>(kept: &'a mut Option<Clocks>, wants: &[Want], device: &Device) -> Result<&'a mut Clocks> {
        let fits = |clocks: &Clocks| clocks.held.len() == wants.len() && clocks.settings.device() == *device;
        let clocks = match kept.take() {
            Some(clocks) if fits(&clocks) => clocks,
            _ => {
                capture::refuse("optimizer step", "another set of parameters than in the step before")?;
                let table = |width| Tensor::zeros([wants.len(), width], DType::F64, device);
                Clocks {
                    settings: table(CLOCK_SETTINGS)?,
                    held: vec![[f64::NAN; CLOCK_SETTINGS]; wants.len()],
                    numbers: table(CLOCK)?,
                    steps: Vec::new(),
                    unsure: false,
                }
            }
        };
        let clocks = kept.insert(clocks);
        clocks.set(wants)?;
        Ok(clocks)
    }

    /// Whether the device may have skipped steps that the host has counted.
    pub fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// Makes them stand before the wanted steps, if there is one for each.
    pub fn set(&mut self, wants: &[Want]) -> Result<bool> {
        let before = || wants.iter().map(|want| want.step - 1);
        if wants.len() != self.held.len() {
            return Ok(false);
        }
        if !self.steps.iter().copied().eq(before()) {
            capture::refuse("optimizer step", "a count of steps that is not the device's")?;
            let mut numbers = vec![0.0; wants.len() * CLOCK];
            numbers.chunks_exact_mut(CLOCK).zip(before()).for_each(|(clock, steps)| clock[0] = steps as f64);
            storage::write(&numbers, self.numbers.storage_mut()?)?;
            self.steps = before().collect();
            self.unsure = false;
        }
        let settings: Vec<_> = wants.iter().map(|want| want.update.clock_settings()).collect();
        if settings != self.held {
            capture::refuse("optimizer step", "a changed setting")?;
            storage::write(settings.as_flattened(), self.settings.storage_mut()?)?;
            self.held = settings;
        }
        Ok(true)
    }

    /// One step more.
    pub fn advance(&mut self, skip: Option<&Tensor>) -> Result<()> {
        storage::advance(self.settings.storage(), self.numbers.storage_mut()?, skip.map(Tensor::storage))?;
        self.unsure |= skip.is_some();
        self.count();
        Ok(())
    }

    /// What the host does of [`advance`](Self::advance) where the device does it again.
    pub fn count(&mut self) {
        self.steps.iter_mut().for_each(|steps| *steps += 1);
    }

    /// How many steps each has counted, where only the device knows.
    pub fn counted(&self) -> Result<Option<Vec<u64>>> {
        if !self.unsure || self.steps.is_empty() {
            return Ok(None);
        }
        let numbers = self.numbers.to_vec::<f64>()?;
        Ok(Some(numbers.chunks_exact(CLOCK).map(|clock| clock[0] as u64).collect()))
    }

    /// The host counts from here on.
    pub fn forget(&mut self) {
        self.steps.clear();
        self.unsure = false;
    }
}

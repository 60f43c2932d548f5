//! Philox4x32-10: random numbers as a pure function of a seed and a counter.
//!
//! J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. A counter-based
//! generator gives the same number for the same index whoever asks, in whatever order, so masks and initial weights do
//! not depend on the device or on the number of threads.
//!
//! ```
//! use gatefold::{Device, Philox, Tensor, rng::philox4x32};
//! assert_eq!(philox4x32([0; 4], [0; 2])[0], 0x6627_e8d5); // a function: Random123's published answer
//! let mut rng = Philox::seed(1);
//! let x = Tensor::uniform([2, 3], -1.0, 1.0, gatefold::DType::F32, &Device::Cpu, &mut rng)?;
//! let again = Tensor::uniform([2, 3], -1.0, 1.0, gatefold::DType::F32, &Device::Cpu, &mut Philox::seed(1))?;
//! assert_eq!(x.to_vec::<f32>()?, again.to_vec::<f32>()?);
//! # Ok::<(), gatefold::Error>(())
//! ```

use std::convert::Infallible;

use rand_core::{SeedableRng, TryRng};

/// How many rounds there are, and by what the two even words are multiplied in each.
pub(crate) const ROUNDS: usize = 10;
pub(crate) const FACTORS: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];

/// The key of the round after one's.
#[inline(always)]
pub(crate) fn next(key: [u32; 2]) -> [u32; 2] {
    [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)]
}

/// Four 32-bit random words for one counter under one key: ten rounds of Philox4x32.
#[inline(always)]
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let a = FACTORS[0] * counter[0] as u64;
        let b = FACTORS[1] * counter[2] as u64;
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key = next(key);
    }
    counter
}

/// The block of four words number `block` of the stream `stream` under `seed`.
#[inline(always)]
pub(crate) fn block(seed: u64, stream: u64, block: u64) -> [u32; 4] {
    philox4x32(
        [block as u32, (block >> 32) as u32, stream as u32, (stream >> 32) as u32],
        [seed as u32, (seed >> 32) as u32],
    )
}

/// Word number `index` of the stream `stream` under `seed`.
#[inline]
pub(crate) fn word(seed: u64, stream: u64, index: u64) -> u32 {
    block(seed, stream, index / 4)[(index % 4) as usize]
}

/// A uniform number in `[0, 1)` out of a word: its 24 upper bits, exact in f32.
#[inline(always)]
pub(crate) fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// The stream that seeds of forks come from: no generator and no mask gets so far.
const FORKS: u64 = u64::MAX;

/// A seeded generator: the source of initial weights, masks and shuffles.
///
/// It implements [`rand_core::Rng`] and [`rand_core::SeedableRng`], so the adaptors of the `rand` crate work on it.
///
/// ```
/// use gatefold::Philox;
/// use rand_core::Rng;
/// let (mut a, mut b) = (Philox::seed(7), Philox::seed(7));
/// assert_eq!(a.next_u64(), b.next_u64());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Philox {
    seed: u64,
    /// Words handed out so far.
    position: u64,
}

impl Philox {
    /// The generator of a seed, at its beginning.
    pub fn seed(seed: u64) -> Self {
        Philox { seed, position: 0 }
    }

    /// The seed and the number of 32-bit words handed out: all of its state.
    pub fn state(&self) -> (u64, u64) {
        (self.seed, self.position)
    }

    /// The generator that [`state`](Self::state) described.
    pub fn from_state((seed, position): (u64, u64)) -> Self {
        Philox { seed, position }
    }

    /// A uniform number in `[0, 1)`, a multiple of 2⁻²⁴.
    pub fn uniform(&mut self) -> f32 {
        unit(self.word())
    }

    /// A uniform index in `0..bound` (0 for a bound of 0), by Lemire's multiply-shift with rejection (2019).
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = self.double_word() as u128 * bound as u128;
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// An index drawn with a probability proportional to its weight. Weights that are not above 0 count as 0; `None` where no weight
    /// counts, or their sum is not finite.
    ///
    /// ```
    /// use gatefold::Philox;
    /// let mut rng = Philox::seed(1);
    /// let twos = (0..1000).filter(|_| rng.choose(&[0.0, 1.0, 3.0]) == Some(2)).count();
    /// assert!((700..800).contains(&twos), "{twos}");
    /// ```
    pub fn choose(&mut self, weights: &[f32]) -> Option<usize> {
        let counted = || weights.iter().map(|&w| f64::from(w)).enumerate().filter(|(_, w)| *w > 0.0);
        let mut left = counted().map(|(_, weight)| weight).sum::<f64>() * f64::from(self.uniform());
        if !left.is_finite() {
            return None;
        }
        let chosen = counted().find(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        // Rounding may leave a little at the end.
        chosen.or_else(|| counted().next_back()).map(|(index, _)| index)
    }

    /// Shuffles in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }

    /// A new seed, for a stream of its own.
    pub fn split(&mut self) -> u64 {
        self.double_word()
    }

    /// A generator of its own for a number, such as that of an epoch: always the same for the same seed and number, wherever
    /// this one stands, and this one stays where it is.
    pub fn fork(&self, number: u64) -> Philox {
        let [low, high, ..] = block(self.seed, FORKS, number);
        Philox::seed(u64::from(low) | u64::from(high) << 32)
    }

    fn word(&mut self) -> u32 {
        let word = word(self.seed, 0, self.position);
        self.position = self.position.wrapping_add(1);
        word
    }

    fn double_word(&mut self) -> u64 {
        let low = self.word() as u64;
        low | (self.word() as u64) << 32
    }
}

impl SeedableRng for Philox {
    type Seed = [u8; 8];

    fn from_seed(seed: Self::Seed) -> Self {
        Philox::seed(u64::from_le_bytes(seed))
    }
}

impl TryRng for Philox {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.word())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.double_word())
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for chunk in dst.chunks_mut(4) {
            chunk.copy_from_slice(&self.word().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_by_weight() {
        let mut rng = Philox::seed(3);
        assert_eq!(rng.choose(&[0.0, 2.5, -1.0, f32::NAN]), Some(1));
        for none in [&[][..], &[0.0, -1.0], &[1.0, f32::INFINITY]] {
            assert_eq!(rng.choose(none), None);
        }
        let mut counts = [0i32; 3];
        (0..30_000).for_each(|_| counts[rng.choose(&[0.1, 0.3, 0.2]).unwrap()] += 1);
        // 5,000, 15,000 and 10,000 are expected, with deviations below 100.
        assert!(counts.iter().zip([5000, 15_000, 10_000]).all(|(n, want)| (n - want).abs() < 500), "{counts:?}");
    }

    /// Known answers published with the reference implementation (Random123, `kat_vectors`).
    #[test]
    fn known_answers() {
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox4x32([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn state_resumes() {
        let mut a = Philox::seed(3);
        (0..5).for_each(|_| {
            a.uniform();
        });
        let mut b = Philox::from_state(a.state());
        assert_eq!(a.split(), b.split());
    }

    #[test]
    fn forks() {
        let mut rng = Philox::seed(3);
        let mut a = rng.fork(7);
        rng.split();
        assert_eq!(a, rng.fork(7));
        let mut firsts: Vec<u64> = (0..100).map(|number| rng.fork(number).split()).collect();
        firsts.extend([rng.split(), Philox::seed(4).fork(7).split()]);
        assert!(firsts.contains(&a.split()));
        firsts.sort();
        firsts.dedup();
        assert_eq!(firsts.len(), 102);
    }

    #[test]
    fn below_stays_below() {
        let mut rng = Philox::seed(1);
        let mut seen = [0usize; 7];
        (0..7000).for_each(|_| seen[rng.below(7) as usize] += 1);
        assert!(seen.iter().all(|&n| (800..1200).contains(&n)), "{seen:?}");
    }
}

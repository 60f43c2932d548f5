//! One generic body, compiled once per instruction set, chosen at run time.

use std::sync::OnceLock;

/// An instruction set that bodies are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What the target guarantees.
    Portable,
    /// NEON, which every 64-bit ARM processor has: portable bodies use it as well, products have kernels of their own.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, VL, BW, DQ.
    Avx512,
    /// AVX-512, and AMX with bf16 for products of f32.
    Amx,
}

/// The widest set this processor has. `GATEFOLD_ISA=portable|avx2|avx512` asks for a lesser one, for tests and benches.
pub fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| {
        let wanted = match std::env::var("GATEFOLD_ISA").as_deref() {
            Ok("portable") => Isa::Portable,
            Ok("avx2") => Isa::Avx2,
            Ok("avx512") => Isa::Avx512,
            _ => Isa::Amx,
        };
        wanted.min(detect(wanted))
    })
}

#[cfg(target_arch = "x86_64")]
fn detect(wanted: Isa) -> Isa {
    use std::arch::is_x86_feature_detected as has;
    // All that `avx2` below lets the compiler use.
    if !(has!("avx2") && has!("fma") && has!("f16c") && has!("bmi2")) {
        Isa::Portable
    } else if has!("avx512f") && has!("avx512vl") && has!("avx512bw") && has!("avx512dq") {
        // Asking for tiles changes the process: only where they are wanted.
        if wanted == Isa::Amx && super::amx::available() { Isa::Amx } else { Isa::Avx512 }
    } else {
        Isa::Avx2
    }
}

#[cfg(target_arch = "aarch64")]
fn detect(_: Isa) -> Isa {
    Isa::Neon
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detect(_: Isa) -> Isa {
    Isa::Portable
}

/// Runs a body with the compiler free to use the processor's widest vectors. The body must be
/// `#[inline(always)]`, and so must what it calls, or it stays portable code.
#[inline(always)]
pub fn vectorize<R>(body: impl FnOnce() -> R) -> R {
    match isa() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `isa` answers these only where the features were detected.
        Isa::Amx | Isa::Avx512 => unsafe { avx512(body) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `isa` answers Avx2 only where these features were detected.
        Isa::Avx2 => unsafe { avx2(body) },
        _ => body(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c,bmi2")]
fn avx512<R>(body: impl FnOnce() -> R) -> R {
    body()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi2")]
fn avx2<R>(body: impl FnOnce() -> R) -> R {
    body()
}

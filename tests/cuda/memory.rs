//! What the allocator and the staging of copies count.

use gatefold::{DType, MemoryStats, Tape, Tensor};

use crate::{CPU, GPU, gpu, numbers};

fn stats() -> MemoryStats {
    GPU.memory_stats().unwrap()
}

#[test]
fn memory_is_used_again() {
    if !gpu() {
        return;
    }
    let step = || {
        let tape = Tape::new();
        let x = tape.variable(numbers(&[1000], -1.0, 1.0, DType::F32, 6).to_device(&GPU).unwrap());
        x.tanh().unwrap().mul(&x).unwrap().sum().unwrap().backward().unwrap();
        x.grad().unwrap().to_vec::<f32>().unwrap()
    };
    let first = step();
    let before = stats();
    assert!(before.reserved_bytes >= before.allocated_bytes && before.peak_allocated_bytes >= 4000 * 4);
    assert_eq!(step(), first);
    // Other tests run beside this one, so that the driver was not asked is seen in the counts only.
    let after = stats();
    if std::env::var_os("GATEFOLD_NO_CUDA_MEMORY_CACHING").is_some() {
        assert_eq!(after.allocations, after.driver_allocations);
    } else {
        assert!(after.allocations - before.allocations > after.driver_allocations - before.driver_allocations);
    }
    assert!(CPU.memory_stats().is_err());
}

/// In a process of its own, where nobody else counts.
#[test]
fn counts() {
    const CHILD: &str = "GATEFOLD_TEST_COUNTS";
    if !gpu() {
        return;
    }
    if std::env::var_os(CHILD).is_none() {
        for (caching, value) in [(true, "0"), (false, "1")] {
            let child = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "memory::counts", "--nocapture"])
                .env(CHILD, "1")
                .env("GATEFOLD_NO_CUDA_MEMORY_CACHING", value)
                .output()
                .unwrap();
            let said = [child.stdout, child.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
            assert!(child.status.success() && said.contains("1 passed"), "caching {caching}: {said}");
        }
        return;
    }
    let caching = std::env::var("GATEFOLD_NO_CUDA_MEMORY_CACHING").unwrap() == "0";
    let own = stats();
    let x = Tensor::zeros(1001, DType::F32, &GPU).unwrap();
    let held = stats();
    let bytes = if caching { 4096 } else { 4004 };
    assert_eq!(held.allocated_bytes - own.allocated_bytes, bytes);
    assert_eq!(held.reserved_bytes - own.reserved_bytes, bytes);
    assert_eq!((held.allocations, held.driver_allocations), (own.allocations + 1, own.driver_allocations + 1));
    drop(x);
    let after = stats();
    assert_eq!(after.allocated_bytes, own.allocated_bytes);
    assert_eq!(after.reserved_bytes, if caching { held.reserved_bytes } else { own.reserved_bytes });
    assert_eq!(after.peak_allocated_bytes, held.peak_allocated_bytes);
    drop(Tensor::zeros(1001, DType::F32, &GPU).unwrap());
    assert_eq!(stats().driver_allocations, held.driver_allocations + u64::from(!caching));
    GPU.release_memory().unwrap();
    assert_eq!(stats().reserved_bytes, own.reserved_bytes);

    // There and back takes two blocks where the one is under way when the other is wanted. The next ones reuse them, and
    // those that are larger take their own.
    assert_eq!((stats().pinned_bytes, stats().pinned_allocations), (0, 0));
    let copies = |len: usize| {
        let before = stats();
        for _ in 0..50 {
            let x = Tensor::from_slice(&vec![1.5f32; len], len, &GPU).unwrap();
            assert_eq!(x.to_vec::<f32>().unwrap(), vec![1.5; len]);
        }
        let after = stats();
        (after.pinned_bytes - before.pinned_bytes, after.pinned_allocations - before.pinned_allocations)
    };
    let (bytes, blocks) = copies(1000);
    assert!((1..=2).contains(&blocks) && bytes == (blocks as usize) << 14, "{bytes} bytes in {blocks} blocks");
    let (bytes, blocks) = copies(5000);
    assert!((1..=2).contains(&blocks) && bytes == (blocks as usize) << 15, "{bytes} bytes in {blocks} blocks");
    assert_eq!(copies(1000), (0, 0));
    // Uploads that nobody waits for take more blocks, of 8 MiB at most and up to 64 MiB.
    let large = vec![2.5f32; 40 << 20 >> 2];
    let kept: Vec<Tensor> = (0..4).map(|_| Tensor::from_slice(&large, large.len(), &GPU).unwrap()).collect();
    assert!(stats().pinned_bytes <= (64 + 8) << 20, "{}", stats().pinned_bytes);
    let asked = stats().pinned_allocations;
    assert!(kept.iter().all(|x| x.to_vec::<f32>().unwrap() == large));
    assert_eq!(stats().pinned_allocations, asked);
    drop(kept);
    GPU.release_memory().unwrap();
    assert_eq!((stats().pinned_bytes, stats().reserved_bytes), (0, own.reserved_bytes));
    assert!(copies(3).1 >= 1);
}

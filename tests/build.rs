//! What build.rs makes of ptxas's report: spills must not pass unseen.

#[path = "../build/ptxas.rs"]
mod ptxas;

use ptxas::{Usage, parse, spills, table};

/// Of ptxas 13.0: a kernel that calls a function, one that spills, and the latter for another architecture.
const REPORT: &str = "\
== kernels/test.cu sm_80
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'calls' for 'sm_80'
ptxas info    : Function properties for calls
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 50 registers, used 0 barriers, 368 bytes cmem[0]
ptxas info    : Compile time = 22.793 ms
ptxas info    : Function properties for _Z6helperfi
    16 bytes stack frame, 0 bytes spill stores, 4 bytes spill loads
ptxas info    : Compiling entry function 'spilling' for 'sm_80'
ptxas info    : Function properties for spilling
    336 bytes stack frame, 656 bytes spill stores, 684 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 336 bytes cumulative stack size, 400 bytes smem, 368 bytes cmem[0]
ptxas info    : Compile time = 23.013 ms
== kernels/test.cu sm_90a
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'spilling' for 'sm_90a'
ptxas info    : Function properties for spilling
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 400 bytes smem
";

fn usage(name: &str, arch: &str, [registers, shared, stack, spill_stores, spill_loads]: [u64; 5]) -> Usage {
    Usage { name: name.into(), arch: arch.into(), registers, shared, stack, spill_stores, spill_loads }
}

#[test]
fn every_function_is_read() {
    let want = vec![
        usage("calls", "sm_80", [50, 0, 0, 0, 0]),
        usage("_Z6helperfi", "sm_80", [0, 0, 16, 0, 4]),
        usage("spilling", "sm_80", [32, 400, 336, 656, 684]),
        usage("spilling", "sm_90a", [255, 400, 0, 0, 0]),
    ];
    assert_eq!(parse(REPORT), Ok(want));
}

#[test]
fn spills_are_named_with_architecture_and_bytes() {
    let functions = parse(REPORT).unwrap();
    let want = "_Z6helperfi spills registers on sm_80: 0 bytes stored, 4 bytes loaded a thread\n\
                spilling spills registers on sm_80: 656 bytes stored, 684 bytes loaded a thread\n";
    assert_eq!(spills(&functions), want);
    assert_eq!(spills(&functions[..1]), "");
}

#[test]
fn the_table_has_a_line_for_each() {
    let text = table(&parse(REPORT).unwrap());
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[3], ["spilling", "sm_80", "32", "400", "336", "656", "684"]);
    assert_eq!(rows.len(), 5);
    let widths: Vec<usize> = text.lines().map(str::len).collect();
    assert_eq!(widths, [widths[0]; 5], "columns stand below their headings");
}

#[test]
fn a_kernel_without_its_numbers_is_an_error() {
    let silent = REPORT.replace("336 bytes stack frame, 656 bytes spill stores, 684 bytes spill loads", "");
    assert!(parse(&silent).is_err_and(|e| e.contains("whose is") && e.contains("Used 32")), "{:?}", parse(&silent));
    let short = REPORT.lines().filter(|line| !line.contains("Used 255")).map(|l| format!("{l}\n")).collect::<String>();
    assert_eq!(parse(&short).unwrap_err(), "ptxas compiled 3 kernels and gave the registers and spills of 2");
    let odd = REPORT.replace("656 bytes", "many bytes");
    assert!(parse(&odd).is_err_and(|e| e.contains("\" bytes spill stores\"") && e.contains("many bytes")));
}

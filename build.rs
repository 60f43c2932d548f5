//! Compiles the CUDA kernels when the feature `cuda` asks for them; without it there is nothing to do.
//!
//! Every `kernels/*.cu` becomes machine code or PTX once per architecture, in parallel and only when its inputs changed, then
//! one fat binary per file, all of which `src/cuda/launch.rs` embeds. Neither host code nor libcudart is involved.
//! With the feature `bindgen`, what Rust knows of `kernels/abi.h` is written anew first.

#[cfg(feature = "bindgen")]
#[path = "build/bindings.rs"]
mod bindings;
#[path = "build/ptxas.rs"]
mod ptxas;

use std::{
    collections::hash_map::DefaultHasher,
    env, fs,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    process::{Command, exit},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Machine code for A100 and H100, and PTX that the driver compiles for any later card.
const DEFAULT_ARCHS: &str = "80 90a compute_80";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build");
    #[cfg(feature = "bindgen")]
    if let Err(wrong) = bindings::write() {
        fail(&wrong);
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    println!("cargo:rerun-if-changed=kernels");
    for name in
        ["NVCC", "CUDA_HOME", "CUDA_PATH", "PATH", "DOCS_RS", "GATEFOLD_CUDA_ARCHS", "GATEFOLD_CUDA_DENY_SPILLS"]
    {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let archs = match architectures(&set("GATEFOLD_CUDA_ARCHS").unwrap_or_else(|| DEFAULT_ARCHS.into())) {
        Ok(archs) => archs,
        Err(wrong) => {
            fail(&format!("GATEFOLD_CUDA_ARCHS: {wrong:?} is not an architecture such as 80, 90a or compute_80"))
        }
    };
    let nvcc = if env::var_os("DOCS_RS").is_some() { None } else { find_nvcc() };
    let Some(nvcc) = nvcc else {
        // Not in the published crate.
        let script = Path::new("scripts/install-cuda").is_file();
        println!(
            "cargo:warning=gatefold: no nvcc, so no CUDA kernels: set NVCC or CUDA_HOME{}",
            if script { ", or run scripts/install-cuda" } else { "" }
        );
        write_table(&out, &[], &[]);
        return;
    };
    let nvcc = with_neighbours(nvcc);
    if let Err(wrong) = known(&nvcc, &archs) {
        fail(&wrong);
    }
    let files = sources();
    compile(&nvcc, &files, &archs, &out);
    write_table(&out, &files, &archs);
}

/// The variable's text; an empty one is as good as none.
fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|text| !text.trim().is_empty())
}

fn fail(message: &str) -> ! {
    println!("cargo:warning=gatefold: {}", message.lines().next().unwrap_or_default());
    eprintln!("{message}");
    exit(1)
}

/// `80` or `sm_80` for machine code, `compute_80` for PTX.
struct Arch {
    /// `80`, `90a`
    number: String,
    ptx: bool,
}

impl Arch {
    fn name(&self) -> String {
        format!("{}_{}", if self.ptx { "compute" } else { "sm" }, self.number)
    }
}

fn architectures(text: &str) -> Result<Vec<Arch>, String> {
    let words = text.split([' ', ',', ';']).filter(|word| !word.is_empty());
    let archs = words.map(|word| {
        let (ptx, number) = match (word.strip_prefix("compute_"), word.strip_prefix("sm_")) {
            (Some(number), _) => (true, number),
            (_, Some(number)) => (false, number),
            _ => (false, word),
        };
        let digits = number.trim_end_matches(['a', 'f']);
        let valid = number.len() - digits.len() <= 1 && digits.parse::<u32>().is_ok_and(|n| (50..1000).contains(&n));
        if valid { Ok(Arch { number: number.into(), ptx }) } else { Err(word.to_string()) }
    });
    let archs = archs.collect::<Result<Vec<_>, _>>()?;
    if archs.is_empty() { Err(text.into()) } else { Ok(archs) }
}

/// An `Err` of the first architecture that this nvcc does not compile for.
fn known(nvcc: &Path, archs: &[Arch]) -> Result<(), String> {
    let Ok(list) = run(Command::new(nvcc).arg("--list-gpu-code")) else {
        return Ok(()); // older than the question; it will say so itself
    };
    let numbers: Vec<&str> = list.split_whitespace().filter_map(|word| word.strip_prefix("sm_")).collect();
    // Neither 90a nor 100f stands in the list.
    match archs.iter().find(|arch| !numbers.contains(&arch.number.trim_end_matches(['a', 'f']))) {
        Some(arch) => {
            let (name, numbers) = (arch.name(), numbers.join(" "));
            Err(format!("GATEFOLD_CUDA_ARCHS: {} does not know {name}, but {numbers}", nvcc.display()))
        }
        None => Ok(()),
    }
}

/// `NVCC`, then `CUDA_HOME` and `CUDA_PATH`, then PATH, then what scripts/install-cuda made.
fn find_nvcc() -> Option<PathBuf> {
    if let Some(named) = set("NVCC") {
        let named = PathBuf::from(named);
        if named.is_file() {
            return Some(named);
        }
        fail(&format!("NVCC names {}, which is not a file", named.display()));
    }
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(set).map(|home| PathBuf::from(home).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let name = format!("nvcc{}", env::consts::EXE_SUFFIX);
    let found = homes.chain(env::split_paths(&path)).map(|folder| folder.join(&name)).find(|file| file.is_file());
    found.or_else(|| installed(&name))
}

/// A mere link to nvcc, such as may be on the path, finds neither its headers nor the tools beside it: what it points at does.
fn with_neighbours(nvcc: PathBuf) -> PathBuf {
    let beside = |nvcc: &Path| nvcc.with_file_name(format!("fatbinary{}", env::consts::EXE_SUFFIX)).is_file();
    if beside(&nvcc) {
        return nvcc;
    }
    match fs::canonicalize(&nvcc) {
        Ok(target) if beside(&target) => target,
        _ => fail(&format!("there is no fatbinary beside {}: it is no whole CUDA toolkit", nvcc.display())),
    }
}

/// In `target/cuda/lib/python3.*/site-packages/nvidia/cu*/bin`, with `target` found as the ancestor of OUT_DIR or beside
/// Cargo.toml.
fn installed(name: &str) -> Option<PathBuf> {
    let out = PathBuf::from(env::var_os("OUT_DIR")?);
    let roots = out.ancestors().map(Path::to_path_buf).chain([PathBuf::from("target")]);
    roots
        .map(|root| root.join("cuda/lib"))
        .filter(|lib| lib.is_dir())
        .flat_map(|lib| entries(&lib))
        .flat_map(|python| entries(&python.join("site-packages/nvidia")))
        .map(|toolkit| toolkit.join("bin").join(name))
        .find(|file| file.is_file())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).map(|all| all.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    entries.sort();
    entries
}

fn with_extension(folder: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let is = |file: &PathBuf| file.extension().is_some_and(|e| extensions.iter().any(|want| e == *want));
    entries(Path::new(folder)).into_iter().filter(is).collect()
}

fn sources() -> Vec<PathBuf> {
    with_extension("kernels", &["cu"])
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// One job per file and architecture on as many threads as cargo grants, then one fat binary per file.
fn compile(nvcc: &Path, files: &[PathBuf], archs: &[Arch], out: &Path) {
    let mut shared = DefaultHasher::new();
    for header in ["kernels", "kernels/device", "kernels/cell"].iter().flat_map(|f| with_extension(f, &["h", "cuh"])) {
        (&header, fs::read(&header).unwrap_or_default()).hash(&mut shared);
    }
    let version = Command::new(nvcc).arg("--version").output().map(|o| o.stdout).unwrap_or_default();
    (nvcc, &version).hash(&mut shared);

    let jobs: Vec<(&PathBuf, &Arch)> = files.iter().flat_map(|f| archs.iter().map(move |a| (f, a))).collect();
    let (next, trouble) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1usize);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(jobs.len()) {
            scope.spawn(|| {
                while let Some(&(file, arch)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(text) = compile_one(nvcc, file, arch, out, shared.clone()) {
                        trouble.lock().unwrap_or_else(|e| e.into_inner()).push(text);
                    }
                }
            });
        }
    });
    let trouble = trouble.into_inner().unwrap_or_else(|e| e.into_inner());
    if !trouble.is_empty() {
        fail(&trouble.join("\n"));
    }

    let mut report = String::from_utf8_lossy(&version).into_owned();
    for file in files {
        let fatbin = out.join(format!("{}.fatbin", stem(file)));
        let mut command = Command::new(nvcc.with_file_name("fatbinary"));
        // By itself it compresses PTX only; machine code shrinks to a quarter.
        command.args(["-64", "--compress-all"]).arg(format!("--create={}", fatbin.display()));
        for arch in archs {
            let (kind, part) = (if arch.ptx { "ptx" } else { "elf" }, part(out, file, arch));
            command.arg(format!("--image3=kind={kind},sm={},file={}", arch.number, part.display()));
            report += &fs::read_to_string(part.with_extension("txt")).unwrap_or_default();
        }
        if let Err(text) = run(&mut command) {
            fail(&text);
        }
    }
    report_usage(&report, archs, out);
}

/// Registers, memory and spills of every kernel: `ptxas.txt` as ptxas tells them, `ptxas-table.txt` for scripts/ptxas-report.
/// `GATEFOLD_CUDA_DENY_SPILLS=1` makes spills an error.
fn report_usage(report: &str, archs: &[Arch], out: &Path) {
    fs::write(out.join("ptxas.txt"), report).expect("OUT_DIR can be written");
    let deny = set("GATEFOLD_CUDA_DENY_SPILLS").is_some_and(|value| value != "0");
    let functions = match ptxas::parse(report) {
        Ok(functions) => functions,
        Err(wrong) if deny => fail(&format!("GATEFOLD_CUDA_DENY_SPILLS: {wrong}")),
        // Another version's words must not keep anybody from building.
        Err(wrong) => return fs::write(out.join("ptxas-table.txt"), wrong).expect("OUT_DIR can be written"),
    };
    fs::write(out.join("ptxas-table.txt"), ptxas::table(&functions)).expect("OUT_DIR can be written");
    if !deny {
        return;
    }
    if functions.is_empty() && archs.iter().any(|arch| !arch.ptx) {
        fail("GATEFOLD_CUDA_DENY_SPILLS: ptxas said nothing of any kernel");
    }
    let spills = ptxas::spills(&functions);
    if !spills.is_empty() {
        fail(&format!("GATEFOLD_CUDA_DENY_SPILLS: {spills}"));
    }
}

fn part(out: &Path, file: &Path, arch: &Arch) -> PathBuf {
    out.join(format!("{}.{}.part", stem(file), arch.name()))
}

fn compile_one(nvcc: &Path, file: &Path, arch: &Arch, out: &Path, mut inputs: DefaultHasher) -> Result<(), String> {
    let (part, name) = (part(out, file, arch), arch.name());
    let mut command = Command::new(nvcc);
    command.args(["-std=c++17", "-O3", "-Xptxas", "-v"]).arg(format!("-arch={name}"));
    command.arg(if arch.ptx { "-ptx" } else { "-cubin" }).arg(file).arg("-o").arg(&part);
    (fs::read(file).unwrap_or_default(), format!("{command:?}")).hash(&mut inputs);
    let (stamp, hash) = (part.with_extension("hash"), inputs.finish().to_string());
    if part.is_file() && fs::read_to_string(&stamp).is_ok_and(|old| old == hash) {
        return Ok(());
    }
    let text = run(&mut command)?;
    fs::write(part.with_extension("txt"), format!("== {} {name}\n{text}", file.display()))
        .and_then(|()| fs::write(&stamp, hash))
        .map_err(|e| format!("{}: {e}", stamp.display()))
}

/// What the command says, or an `Err` of it when it fails.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    if output.status.success() { Ok(text) } else { Err(format!("{command:?}: {}\n{text}", output.status)) }
}

/// `kernels.rs`: the fat binaries by the name of their file, and the architectures in them. Empty without nvcc.
fn write_table(out: &Path, files: &[PathBuf], archs: &[Arch]) {
    let rows: String = files
        .iter()
        .map(|file| format!("    ({0:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{0}.fatbin\"))),\n", stem(file)))
        .collect();
    let names: Vec<String> = archs.iter().map(Arch::name).collect();
    let text = format!(
        "/// Fat binaries by the name of their file.\npub const MODULES: &[(&str, &[u8])] = &[\n{rows}];\n\
         /// The architectures that they hold.\npub const ARCHS: &str = {:?};\n",
        names.join(" ")
    );
    fs::write(out.join("kernels.rs"), text).expect("OUT_DIR can be written");
}

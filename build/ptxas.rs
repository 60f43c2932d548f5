//! What `ptxas -v` says of each function: registers, memory, spills.

/// One function for one architecture; memory in bytes a thread, shared memory a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    pub name: String,
    pub arch: String,
    /// 0 of a function that is not a kernel: its callers count them.
    pub registers: u64,
    pub shared: u64,
    pub stack: u64,
    pub spill_stores: u64,
    pub spill_loads: u64,
}

/// Every function of a report, in its order; an `Err` where ptxas says less of one than expected.
pub fn parse(report: &str) -> Result<Vec<Usage>, String> {
    let (mut functions, mut kernels): (Vec<Usage>, usize) = (Vec::new(), 0);
    // The kernel that is being compiled, its architecture, and the function that is being described.
    let (mut kernel, mut arch, mut described) = (String::new(), String::new(), None::<String>);
    for line in report.lines() {
        let line = line.trim();
        let said =
            line.strip_prefix("ptxas info").map_or(line, |rest| rest.trim_start().trim_start_matches(':').trim());
        if let Some(rest) = said.strip_prefix("Compiling entry function ") {
            let words: Vec<&str> = rest.split('\'').collect();
            let [_, name, _, target, ..] = words[..] else { return Err(format!("ptxas: {line:?}")) };
            (kernel, arch, kernels) = (name.into(), target.into(), kernels + 1);
        } else if let Some(name) = said.strip_prefix("Function properties for ") {
            described = Some(name.into());
        } else if said.contains("bytes spill stores") {
            let name = described.take().ok_or_else(|| format!("ptxas: whose is {line:?}?"))?;
            functions.push(Usage {
                name,
                arch: arch.clone(),
                registers: 0,
                shared: 0,
                stack: before(said, " bytes stack frame")?,
                spill_stores: before(said, " bytes spill stores")?,
                spill_loads: before(said, " bytes spill loads")?,
            });
        } else if said.starts_with("Used ") && said.contains(" registers") {
            let function = functions.iter_mut().rev().find(|f| f.name == kernel && f.arch == arch);
            let function = function.ok_or_else(|| format!("ptxas: whose is {line:?}?"))?;
            function.registers = before(said, " registers")?;
            function.shared = if said.contains(" bytes smem") { before(said, " bytes smem")? } else { 0 };
        }
    }
    let complete = functions.iter().filter(|f| f.registers > 0).count();
    if complete != kernels {
        return Err(format!("ptxas compiled {kernels} kernels and gave the registers and spills of {complete}"));
    }
    Ok(functions)
}

/// The number that stands before those words.
fn before(line: &str, words: &str) -> Result<u64, String> {
    let number = line.split_once(words).and_then(|(start, _)| start.rsplit([' ', '+']).next()?.parse().ok());
    number.ok_or_else(|| format!("ptxas: no number before {words:?} in {line:?}"))
}

/// The functions that spill, one a line; an empty text when none does.
pub fn spills(functions: &[Usage]) -> String {
    let spilling = functions.iter().filter(|f| f.spill_stores + f.spill_loads > 0);
    let lines = spilling.map(|f| {
        format!(
            "{} spills registers on {}: {} bytes stored, {} bytes loaded a thread\n",
            f.name, f.arch, f.spill_stores, f.spill_loads
        )
    });
    lines.collect()
}

/// A line for each function under a line of headings.
pub fn table(functions: &[Usage]) -> String {
    let wide = functions.iter().map(|f| f.name.len()).max().unwrap_or(0).max(6);
    let mut text = format!("{:wide$} arch    registers  shared   stack  spill stores  spill loads\n", "kernel");
    for f in functions {
        text += &format!(
            "{:wide$} {:7} {:9} {:7} {:7} {:13} {:12}\n",
            f.name, f.arch, f.registers, f.shared, f.stack, f.spill_stores, f.spill_loads
        );
    }
    text
}

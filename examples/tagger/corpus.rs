//! Training on many tagged sentences.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use gatefold::{
    Error, Philox, Result, Tape,
    data::{Batches, TaggedSentence, read_conllu, read_tagged},
    loss::CrossEntropyLoss,
    nn::Module,
    optim::{Adam, CosineAnnealingLr, clip_grad_norm},
    train::{Confusion, Progress, Running},
};

use crate::{
    Settings,
    model::{Batch, IGNORE, Tagger, Vocabularies},
};

pub fn train(data: &Path, settings: &Settings) -> Result<()> {
    let (training, held_out) = read(data, settings)?;
    let of = Vocabularies::new(&training, &held_out, settings.min_frequency);
    println!("{} sentences to train on, {} held out", training.len(), held_out.len());
    println!("{} words, {} characters, {} tags", of.words.len(), of.letters.len(), of.tags.len());
    println!("most frequent tag of each word: {:.4} right on those held out", most_frequent(&training, &held_out));

    let (device, epochs, mut rng) = (&settings.device, settings.epochs.unwrap_or(6), Philox::seed(settings.seed));
    let tagger = Tagger::new(&of, settings.chars, device, &mut rng)?;
    println!("{}\n{} parameters on {device}", tagger.repr(), tagger.num_parameters());
    let batches = || Batches::new(training.len(), 32);
    let mut optimizer = Adam::new(4e-3).over([&tagger])?;
    let steps = epochs.saturating_mul(batches()?.len() as u64);
    let mut schedule = CosineAnnealingLr::new(steps).eta_min(1e-4).over(&mut optimizer)?;
    let cross_entropy = CrossEntropyLoss::new().ignore_index(IGNORE);

    let mut confusion = Confusion::new(of.tags.words())?;
    for epoch in 1..=epochs {
        let (mut running, began, batches) = (Running::new(), Instant::now(), batches()?.shuffle(&mut rng));
        let bar = Progress::new(format!("epoch {epoch}/{epochs}"), batches.len());
        tagger.train();
        for batch in batches {
            let sentences: Vec<_> = batch.iter().map(|&i| &training[i]).collect();
            // A rare word is now and then made unknown, so that there is something to learn about unknown words.
            let hide = |word: &str| rng.uniform() < 0.25 / (0.25 + of.words.count(word) as f32);
            let batch = Batch::new(&sentences, &of, settings.chars, hide, device)?;
            let scores = tagger.forward(&Tape::new(), &batch)?;
            let loss = cross_entropy.forward(&scores, &batch.tags)?;
            optimizer.zero_grad();
            loss.backward()?;
            clip_grad_norm(&tagger, 5.0, 2.0)?;
            optimizer.step()?;
            schedule.step(&mut optimizer)?;
            running.add(loss.into_tensor(), scores.argmax(-1)?, batch.tags)?;
            bar.step(running.to_string());
        }
        running.read()?;
        bar.finish();
        let spent = began.elapsed().as_secs_f64();
        confusion = test(&tagger, &held_out, &of, settings)?;
        println!(
            "epoch {epoch}/{epochs}  loss {:.4}  held-out accuracy {:.4}  {spent:.1} s",
            running.loss(),
            confusion.accuracy()
        );
    }
    println!("\n{}\nheld-out accuracy {:.4}", confusion.report(), confusion.accuracy());
    Ok(())
}

/// Which tags (rows) were taken for which.
fn test(tagger: &Tagger, sentences: &[TaggedSentence], of: &Vocabularies, settings: &Settings) -> Result<Confusion> {
    tagger.eval();
    let mut confusion = Confusion::new(of.tags.words())?;
    for batch in Batches::new(sentences.len(), 64)? {
        let batch: Vec<_> = batch.iter().map(|&i| &sentences[i]).collect();
        let batch = Batch::new(&batch, of, settings.chars, |_| false, &settings.device)?;
        let guesses = tagger.forward(&Tape::no_grad(), &batch)?.argmax(-1)?;
        confusion.add(&guesses.to_vec::<i64>()?, &batch.tags.to_vec::<i64>()?)?;
    }
    Ok(confusion)
}

/// Sentences to train on and to test with.
fn read(data: &Path, settings: &Settings) -> Result<(Vec<TaggedSentence>, Vec<TaggedSentence>)> {
    let hkcancor = data.join("hkcancor.tsv");
    if hkcancor.is_file() {
        let mut sentences = read_tagged(hkcancor)?;
        // The corpus has 94 tags; their first letters are its parts of speech.
        let tags = sentences.iter_mut().flat_map(|s| &mut s.tags);
        tags.for_each(|tag| tag.truncate(tag.chars().next().map_or(0, char::len_utf8)));
        return split(sentences, data);
    }
    let (training, dev) =
        if data.is_dir() { (part(data, "train")?, Some(part(data, "dev"))) } else { (data.into(), None) };
    match settings.dev.clone().map(Ok).or(dev) {
        Some(dev) => Ok((sentences(&training)?, sentences(&dev?)?)),
        None => split(sentences(&training)?, data),
    }
}

fn sentences(path: &Path) -> Result<Vec<TaggedSentence>> {
    if path.extension().is_some_and(|end| end == "conllu") {
        Ok(read_conllu(path)?.iter().map(|sentence| sentence.tagged()).collect())
    } else {
        read_tagged(path)
    }
}

/// The file of a folder whose name ends with `part`.conllu.
fn part(folder: &Path, part: &str) -> Result<PathBuf> {
    let fail = |reason: String| Error::file("--data", folder, reason);
    let entries = fs::read_dir(folder).map_err(|e| fail(e.to_string()))?;
    let end = format!("{part}.conllu");
    let mut paths = entries.flatten().map(|entry| entry.path());
    paths
        .find(|path| path.to_string_lossy().ends_with(&end))
        .ok_or_else(|| fail(format!("no hkcancor.tsv and no file whose name ends with {end}")))
}

/// A tenth is held out.
fn split(mut sentences: Vec<TaggedSentence>, data: &Path) -> Result<(Vec<TaggedSentence>, Vec<TaggedSentence>)> {
    Philox::seed(2015).shuffle(&mut sentences);
    let training = sentences.split_off(sentences.len() / 10);
    if sentences.is_empty() {
        return Err(Error::file("tagger", data, format!("{} sentences, want at least 10", training.len())));
    }
    Ok((training, sentences))
}

/// How often the commonest tag of a word in training, or of all words if it is new, is right.
fn most_frequent(training: &[TaggedSentence], held_out: &[TaggedSentence]) -> f64 {
    fn pairs(sentences: &[TaggedSentence]) -> impl Iterator<Item = (&String, &String)> {
        sentences.iter().flat_map(|s| s.words.iter().zip(&s.tags))
    }
    fn commonest<'a>(counts: &HashMap<&'a String, u32>) -> Option<&'a String> {
        // Ties go to the first in the alphabet, so that two runs agree.
        counts.iter().max_by_key(|&(&tag, &n)| (n, std::cmp::Reverse(tag))).map(|(&tag, _)| tag)
    }
    let (mut by_word, mut of_all) = (HashMap::<_, HashMap<_, u32>>::new(), HashMap::new());
    for (word, tag) in pairs(training) {
        *by_word.entry(word).or_default().entry(tag).or_default() += 1;
        *of_all.entry(tag).or_default() += 1;
    }
    let guess = |word| commonest(by_word.get(word).unwrap_or(&of_all));
    let right = pairs(held_out).filter(|&(word, tag)| guess(word) == Some(tag)).count();
    right as f64 / pairs(held_out).count() as f64
}

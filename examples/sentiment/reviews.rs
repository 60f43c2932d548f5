//! Reviews and whether they are good, to train on, to validate and to test with.

use std::path::Path;

use gatefold::{
    Device, Error, Philox, Result, Tensor,
    data::{Table, Vocabulary, pad, read_text_folders, tokenize},
};

pub struct Review {
    pub words: Vec<String>,
    good: bool,
}

/// The numbers of a review's words, and whether it is good.
pub type Numbered = (Vec<i64>, bool);

pub fn numbers(reviews: Vec<Review>, words: &Vocabulary) -> Result<Vec<Numbered>> {
    reviews.into_iter().map(|review| Ok((words.encode(review.words)?, review.good))).collect()
}

/// Words `(B, T)`, lengths, and 1 for each that is good `(B)`.
pub fn batch(all: &[Numbered], batch: &[usize], device: &Device) -> Result<(Tensor, Vec<usize>, Tensor)> {
    let (x, lengths) = pad(&batch.iter().map(|&i| &all[i].0).collect::<Vec<_>>(), true, 0, device)?;
    let targets: Vec<f32> = batch.iter().map(|&i| f32::from(all[i].1)).collect();
    Ok((x, lengths, Tensor::new(targets, device)?))
}

/// In an order of their own, and without those that have no words.
fn reviews(labelled: impl Iterator<Item = (String, bool)>, path: &Path) -> Result<Vec<Review>> {
    let all = labelled.map(|(text, good)| Review { words: tokenize(&text), good });
    let mut all: Vec<Review> = all.filter(|review| !review.words.is_empty()).collect();
    if all.len() < 10 {
        return Err(Error::file("sentiment", path, format!("{} texts, want at least 10", all.len())));
    }
    Philox::seed(2014).shuffle(&mut all);
    Ok(all)
}

/// A table of texts, in tenths: eight to train on, one to validate, one to test. Of texts with ratings those that are rated clearly.
pub fn table(path: &Path) -> Result<[Vec<Review>; 3]> {
    let table = Table::tsv(path)?;
    let has = |column: &str| table.header().iter().any(|name| name == column);
    let mut goods: Vec<Option<bool>> = Vec::new();
    if has("mean_sentiment") && !has("label") {
        goods.extend(table.numbers("mean_sentiment")?.into_iter().map(|r| (r.abs() > 0.2).then_some(r > 0.0)));
    } else {
        for (row, label) in table.text("label")?.into_iter().enumerate() {
            goods.push(Some(match label {
                "pos" | "1" => true,
                "neg" | "0" => false,
                _ => {
                    let reason = format!("row {}: label {label:?}, want pos, neg, 1 or 0", row + 1);
                    return Err(Error::file("sentiment", path, reason));
                }
            }));
        }
    }
    let labelled = table.text("text")?.into_iter().zip(goods);
    let mut all = reviews(labelled.filter_map(|(text, good)| Some((text.to_string(), good?))), path)?;
    let tenth = all.len() / 10;
    let testing = all.split_off(all.len() - tenth);
    let validation = all.split_off(all.len() - tenth);
    Ok([all, validation, testing])
}

/// The reviews of an aclImdb folder; a tenth of those to train on is to validate.
pub fn imdb(folder: &Path) -> Result<[Vec<Review>; 3]> {
    let read = |part: &str| -> Result<Vec<Review>> {
        let folder = folder.join(part);
        let texts = read_text_folders(&folder, &["pos", "neg"])?;
        reviews(texts.into_iter().map(|(label, text)| (text, label == 0)), &folder)
    };
    let (mut training, testing) = (read("train")?, read("test")?);
    let validation = training.split_off(training.len() - training.len() / 10);
    Ok([training, validation, testing])
}

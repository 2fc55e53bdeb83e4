//! Full text, by tantivy in memory. Writes collect in the engine's writer and become visible together, at the next
//! search.

mod syntax;
mod tokenizer;

use std::collections::HashSet;
use std::fmt;
use std::ops::Bound;

use tantivy::collector::{DocSetCollector, FilterCollector, TopDocs};
use tantivy::columnar::Column;
use tantivy::directory::RamDirectory;
use tantivy::query::{
    BooleanQuery, BoostQuery, ConstScoreQuery, Occur, PhrasePrefixQuery, PhraseQuery, Query as Engine,
    RangeQuery, TermQuery, TermSetQuery,
};
use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, STRING, Schema, TextFieldIndexing, TextOptions,
};
use tantivy::tokenizer::TextAnalyzer;
use tantivy::{DocAddress, IndexReader, IndexSettings, IndexWriter, ReloadPolicy, TantivyDocument, Term};

pub(crate) use self::syntax::Parsed;
use crate::{Document, Error, Namespaces, Query, Words};

/// How much a word counts in the key, the text and the tags.
const FIELD_WEIGHTS: [f32; 3] = [2.0, 1.0, 1.5];
/// The least that the engine's writer takes.
const BUFFER_BYTES_MIN: usize = 15_000_000;
/// How many completions of a query's beginnings of words are ranked each by its rarity. A beginning with more finds all
/// the same, with a score that is the same for all.
const COMPLETIONS_RANKED_MAX: usize = 96;
/// How many completions an open phrase considers.
const PHRASE_COMPLETIONS_MAX: u32 = 10_000;

type Clauses = Vec<(Occur, Box<dyn Engine>)>;

pub(crate) struct TextIndex {
    directory: RamDirectory,
    writer: IndexWriter,
    reader: IndexReader,
    analyzer: TextAnalyzer,
    id: Field,
    namespace: Field,
    tag: Field,
    searched: [Field; 3],
    unseen: bool,
}

impl fmt::Debug for TextIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextIndex").field("unseen", &self.unseen).finish_non_exhaustive()
    }
}

impl TextIndex {
    pub(crate) fn new(buffer_bytes: usize) -> Result<Self, Error> {
        const WORDS: &str = "words";
        let words = TextOptions::default().set_indexing_options(
            TextFieldIndexing::default()
                .set_tokenizer(WORDS)
                .set_index_option(IndexRecordOption::WithFreqsAndPositions),
        );
        let mut schema = Schema::builder();
        let id = schema.add_u64_field("id", INDEXED | FAST);
        let namespace = schema.add_text_field("namespace", STRING);
        let tag = schema.add_text_field("tag", STRING);
        let searched = ["key", "text", "tags"].map(|name| schema.add_text_field(name, words.clone()));
        // A thread that compresses stored documents is of no use: none are stored.
        let settings =
            IndexSettings { docstore_compress_dedicated_thread: false, ..IndexSettings::default() };
        let directory = RamDirectory::create();
        let index = tantivy::Index::create(directory.clone(), schema.build(), settings)?;
        let analyzer = tokenizer::analyzer();
        index.tokenizers().register(WORDS, analyzer.clone());
        let writer = index.writer_with_num_threads(1, buffer_bytes.max(BUFFER_BYTES_MIN))?;
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        Ok(Self { directory, writer, reader, analyzer, id, namespace, tag, searched, unseen: false })
    }

    pub(crate) fn upsert(&mut self, document: &Document, replaces: bool) -> Result<(), Error> {
        self.unseen = true;
        if replaces {
            self.writer.delete_term(Term::from_field_u64(self.id, document.id));
        }
        let [key, text, tags] = self.searched;
        let mut fields = TantivyDocument::new();
        fields.add_u64(self.id, document.id);
        fields.add_text(self.namespace, &document.namespace);
        fields.add_text(key, &document.key);
        fields.add_text(text, &document.text);
        for tag in &document.tags {
            fields.add_text(self.tag, tag);
            fields.add_text(tags, tag);
        }
        self.writer.add_document(fields)?;
        Ok(())
    }

    pub(crate) fn remove(&mut self, id: u64) -> Result<(), Error> {
        self.unseen = true;
        self.writer.delete_term(Term::from_field_u64(self.id, id));
        Ok(())
    }

    /// Makes every write visible.
    pub(crate) fn refresh(&mut self) -> Result<(), Error> {
        if self.unseen {
            self.writer.commit()?;
            self.reader.reload()?;
            self.unseen = false;
        }
        Ok(())
    }

    pub(crate) fn parse(&mut self, text: &str, words: Words) -> Result<Option<Parsed>, Error> {
        syntax::parse(text, words, |piece| tokenizer::words(&mut self.analyzer, piece))
    }

    /// Ids with BM25 scores, best first.
    pub(crate) fn search(
        &self,
        parsed: &Parsed,
        query: &Query,
        limit: usize,
        offset: usize,
    ) -> Result<Vec<(u64, f32)>, Error> {
        let mut filters = self.filters(query);
        let mut wanted = self.wanted(parsed)?;
        if !filters.is_empty() {
            filters.push((Occur::Must, wanted));
            wanted = Box::new(BooleanQuery::new(filters));
        }
        let best = TopDocs::with_limit(limit).and_offset(offset).order_by_score();
        let phrases = parsed.excluded.iter().filter(|clause| !excluded_by_engine(clause));
        let refused = self.with_any(phrases)?;
        let searcher = self.reader.searcher();
        let found = if refused.is_empty() {
            searcher.search(&wanted, &best)?
        } else {
            let admits = move |id: u64| !refused.contains(&id);
            searcher.search(&wanted, &FilterCollector::new("id".into(), admits, best))?
        };
        let ids = self.ids(found.iter().map(|&(_, address)| address))?;
        Ok(ids.into_iter().zip(found).map(|(id, (score, _))| (id, score)).collect())
    }

    /// What the signs of a query's text say about entries found otherwise.
    pub(crate) fn restriction(&self, parsed: &Parsed) -> Result<Restriction, Error> {
        let mut required = Vec::new();
        for clause in &parsed.required {
            required.push((Occur::Must, self.anywhere(clause, &mut 0)?));
        }
        let admitted = if required.is_empty() { None } else { Some(self.all(required)?) };
        Ok(Restriction { admitted, refused: self.with_any(parsed.excluded.iter())? })
    }

    /// Bytes held by what is visible.
    pub(crate) fn memory(&self) -> usize {
        self.directory.total_mem_usage()
    }

    fn with_any<'a>(&self, clauses: impl Iterator<Item = &'a syntax::Clause>) -> Result<HashSet<u64>, Error> {
        let mut any = Vec::new();
        for clause in clauses {
            any.push((Occur::Should, self.anywhere(clause, &mut 0)?));
        }
        if any.is_empty() { Ok(HashSet::new()) } else { self.all(any) }
    }

    fn all(&self, clauses: Clauses) -> Result<HashSet<u64>, Error> {
        let found = self.reader.searcher().search(&BooleanQuery::new(clauses), &DocSetCollector)?;
        Ok(self.ids(found.into_iter())?.into_iter().collect())
    }

    fn ids(&self, addresses: impl Iterator<Item = DocAddress>) -> Result<Vec<u64>, Error> {
        let searcher = self.reader.searcher();
        let columns = searcher
            .segment_readers()
            .iter()
            .map(|segment| segment.fast_fields().u64("id"))
            .collect::<Result<Vec<Column<u64>>, _>>()?;
        addresses
            .map(|address| {
                columns
                    .get(address.segment_ord as usize)
                    .and_then(|column| column.first(address.doc_id))
                    .ok_or_else(|| Error::Engine("a document without its id".into()))
            })
            .collect()
    }

    fn filters(&self, query: &Query) -> Clauses {
        let mut filters: Clauses = Vec::new();
        let mut filter = |field: Field, names: &[String]| {
            let set = TermSetQuery::new(names.iter().map(|name| Term::from_field_text(field, name)));
            let unscored: Box<dyn Engine> = Box::new(ConstScoreQuery::new(Box::new(set), 0.0));
            filters.push((Occur::Must, unscored));
        };
        if let Namespaces::Only(names) = &query.namespaces {
            filter(self.namespace, names);
        }
        for tag in &query.tags {
            filter(self.tag, std::slice::from_ref(tag));
        }
        filters
    }

    fn wanted(&self, parsed: &Parsed) -> Result<Box<dyn Engine>, Error> {
        let mut budget = COMPLETIONS_RANKED_MAX;
        let mut clauses: Clauses = Vec::new();
        for clause in &parsed.required {
            clauses.push((Occur::Must, self.anywhere(clause, &mut budget)?));
        }
        for clause in &parsed.optional {
            // Flat, not nested: over a flat union of words the engine can skip whole blocks of entries.
            clauses.extend(self.everywhere(clause, &mut budget)?);
        }
        for clause in parsed.excluded.iter().filter(|clause| excluded_by_engine(clause)) {
            clauses.push((Occur::MustNot, self.anywhere(clause, &mut 0)?));
        }
        Ok(Box::new(BooleanQuery::new(clauses)))
    }

    fn anywhere(&self, clause: &syntax::Clause, budget: &mut usize) -> Result<Box<dyn Engine>, Error> {
        Ok(Box::new(BooleanQuery::new(self.everywhere(clause, budget)?)))
    }

    /// A clause in each of the fields, weighted.
    fn everywhere(&self, clause: &syntax::Clause, budget: &mut usize) -> Result<Clauses, Error> {
        let mut clauses: Clauses = Vec::new();
        for (field, weight) in self.searched.into_iter().zip(FIELD_WEIGHTS) {
            for query in self.within(field, clause, budget)? {
                clauses.push((Occur::Should, Box::new(BoostQuery::new(query, weight))));
            }
        }
        Ok(clauses)
    }

    /// A clause in one field, as alternatives.
    fn within(
        &self,
        field: Field,
        clause: &syntax::Clause,
        budget: &mut usize,
    ) -> Result<Vec<Box<dyn Engine>>, Error> {
        let term = |word: &String| Term::from_field_text(field, word);
        Ok(match (clause.words.as_slice(), clause.open) {
            ([], _) => Vec::new(),
            ([word], false) => vec![scored(term(word))],
            ([beginning], true) => self.completed(field, beginning, budget)?,
            (words, false) => vec![Box::new(PhraseQuery::new(words.iter().map(term).collect()))],
            (words, true) => {
                let mut phrase = PhrasePrefixQuery::new(words.iter().map(term).collect());
                phrase.set_max_expansions(PHRASE_COMPLETIONS_MAX);
                vec![Box::new(phrase)]
            }
        })
    }

    /// Every word with this beginning: each ranked by itself as long as they are few.
    fn completed(
        &self,
        field: Field,
        beginning: &str,
        budget: &mut usize,
    ) -> Result<Vec<Box<dyn Engine>>, Error> {
        // No word holds this character, so it is above everything that begins so.
        let end = format!("{beginning}\u{10ffff}");
        let mut words: HashSet<Vec<u8>> = HashSet::new();
        'segments: for segment in self.reader.searcher().segment_readers() {
            let inverted = segment.inverted_index(field)?;
            let mut stream = inverted
                .terms()
                .range()
                .ge(beginning.as_bytes())
                .lt(end.as_bytes())
                .into_stream()
                .map_err(|error| Error::Engine(error.to_string()))?;
            while stream.advance() {
                words.insert(stream.key().to_vec());
                if words.len() > *budget {
                    break 'segments;
                }
            }
        }
        if words.len() > *budget {
            let from = Bound::Included(Term::from_field_text(field, beginning));
            let to = Bound::Excluded(Term::from_field_text(field, &end));
            return Ok(vec![Box::new(RangeQuery::new(from, to))]);
        }
        *budget -= words.len();
        let mut words: Vec<_> = words.into_iter().collect();
        words.sort_unstable();
        Ok(words
            .iter()
            .filter_map(|word| std::str::from_utf8(word).ok())
            .map(|word| scored(Term::from_field_text(field, word)))
            .collect())
    }
}

/// Excluding phrases makes the engine, as of 0.27, move a phrase's scorer backwards, against its own contract. So their
/// entries are looked up first and filtered out.
fn excluded_by_engine(clause: &syntax::Clause) -> bool {
    clause.words.len() == 1
}

fn scored(term: Term) -> Box<dyn Engine> {
    Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs))
}

/// Which entries the signs of a query's text leave.
#[derive(Debug, Default)]
pub(crate) struct Restriction {
    admitted: Option<HashSet<u64>>,
    refused: HashSet<u64>,
}

impl Restriction {
    pub(crate) fn admits(&self, id: u64) -> bool {
        self.admitted.as_ref().is_none_or(|admitted| admitted.contains(&id)) && !self.refused.contains(&id)
    }
}

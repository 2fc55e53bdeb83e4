/// How an [`crate::Index`] trades time for memory and recall. The defaults suit up to some hundred thousand entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Up to this many vectors, a namespace is scanned whole and exactly; above, a graph is searched that finds
    /// nearly all of the nearest. Default 40,000, where a scan over some hundred dimensions still takes less than ten
    /// milliseconds, and a graph would cost memory and much build time for little (docs/adr/0005-search-engine.md). Too
    /// low loses recall, too high loses time. Vectors without structure, such as random ones, lose most of their recall
    /// in a graph: for those, set it to `usize::MAX`.
    pub exact_max: usize,
    /// How many vectors that are not in the graph yet one search moves into it, at about a millisecond each. The rest
    /// is scanned exactly, so results are complete at any value; 0 leaves all of it to [`crate::Index::settle`].
    /// Default 16: after a bulk load, searches stay short, and the graph fills over time.
    pub fold_per_search: usize,
    /// How many of each list a query for both text and vector merges. Pages that end within it are cut from the same
    /// merged list. Default 200. Too low misses entries that are middling in both lists.
    pub hybrid_pool: usize,
    /// Memory for text that no search has needed yet, in bytes; what does not fit is moved into the index early. At
    /// least 15 MB (lower values are raised to it). Default 50 MB.
    pub text_buffer_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { exact_max: 40_000, fold_per_search: 16, hybrid_pool: 200, text_buffer_bytes: 50_000_000 }
    }
}

import Jobs
import Orthanc

/// A series with the header of one of its instances, and what the filter says about it.
struct SeriesSample: Sendable, Hashable {
    var series: OrthancSeries
    /// The data set by tag name.
    var tags: [String: JSONValue]
    /// The file-meta group by tag name.
    var fileMeta: [String: JSONValue]
    /// nil when the series is accepted.
    var refusal: Reason?
    /// Why none of its instances could be read.
    var error: OrthancError?

    /// What upstream calls the full header.
    var header: [String: JSONValue] { tags.merging(fileMeta) { _, meta in meta } }
}

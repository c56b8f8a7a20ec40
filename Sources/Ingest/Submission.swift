import Foundation
import Jobs
import Orthanc

/// What became of a resource that somebody asked to be processed.
enum Submission: Sendable, Hashable {
    /// The broker has confirmed its event.
    case dispatched(snapshot: String)
    /// This state of it has had its event before.
    case known(snapshot: String)
    /// A filter refuses it. The refusal is on record.
    case filtered(Reason)
    /// Orthanc has no such resource.
    case notFound
    /// Instances are still arriving; it gets its event when Orthanc calls it stable.
    case unstable
    /// Nothing happened, and the same request may succeed later. The code begins with `orthanc-` or `broker-`, or is `stopping`.
    case failed(Reason)

    static let stopping = Submission.failed(Reason("stopping", "Ingest is being stopped; ask again."))
}

/// Some resources of one level, for those who submit many.
struct ResourcePage: Sendable, Hashable {
    var ids: [OrthancID]
    /// The offset of the next page; nil after the last one.
    var next: Int?
}

import Jobs

/// A message that the router sends to itself through the queue of claims and renewals. When it comes back, everything that was in the
/// queue before it has been heard.
package struct EchoMessage: Sendable, Hashable, Codable {
    package static let type = "dcm.echo.v1"

    /// Unique to one router process: what an earlier one sent says nothing to this one.
    package var router: String
    /// When it was sent, in seconds of the router's own monotonic clock.
    package var sent: Double

    package init(router: String, sent: Double) {
        self.router = router
        self.sent = sent
    }
}

extension HintMessage {
    /// A hint of no job: the claim that it causes tells the router that every hint before it in its queue has been delivered. Workers
    /// need to know nothing about it; the answer to the claim is no.
    package static func marker(_ number: Int) -> HintMessage {
        HintMessage(job: JobID(run: markerRun, index: 0), attempt: number, dispatch: 1)
    }

    /// No run of ours was planned in 1970.
    private static let markerRun = RunID(milliseconds: 0, random: (0, 0))

    fileprivate static func isMarker(_ job: JobID) -> Bool { job.run == markerRun }
}

extension ClaimMessage {
    /// The number of the marker that this claims; nil for the claim of a job.
    package var marker: Int? { HintMessage.isMarker(job) ? attempt : nil }
}

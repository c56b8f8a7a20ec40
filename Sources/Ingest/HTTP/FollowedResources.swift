import Foundation
import Jobs
import Orthanc

/// What the endpoint asks of one server that ingest follows.
protocol FollowedResources: Sendable {
    var name: String { get }
    /// Whether the last look at its change log found everything in order.
    var isFollowing: Bool { get }

    /// Has the change log looked at as soon as possible. Returns at once: Orthanc's Lua waits for it.
    func wake()

    /// Deals with one resource as if the change log had told of it; returns when its event cannot be lost any more.
    ///
    /// - Parameters:
    ///   - replay: gives it an event although this state of it had one; the same text again is the same event.
    ///   - isBulk: in its turn among many, so that new images do not wait for them.
    /// - Throws: `CancellationError` alone.
    func submit(_ level: ResourceLevel, _ id: OrthancID, replay: String?, isBulk: Bool) async throws -> Submission

    /// A page of what Orthanc has, in its order.
    ///
    /// - Parameter updatedSince: leaves out what was last updated before.
    /// - Throws: `OrthancError`.
    func resources(_ level: ResourceLevel, updatedSince: Date?, offset: Int) async throws -> ResourcePage
}

extension FollowedServer: FollowedResources {}

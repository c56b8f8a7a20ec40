package import Foundation
package import Jobs
package import Logging
import Synchronization

/// How far an export is.
package struct ExportProgress: Sendable, Hashable {
    package var files: Int
    package var totalFiles: Int
    /// Of files that are complete or under way.
    package var bytes: Int64
    package var totalBytes: Int64
}

/// What an export did.
package struct ExportSummary: Sendable, Hashable {
    /// Files that are there now.
    package var files: Int
    package var bytes: Int64
    /// Of these, files that an earlier attempt had completed.
    package var resumed: Int
    /// Of these, files for which Orthanc stored no checksum.
    package var unverified: Int
    /// Instances that arrived in Orthanc while the export ran; they are among `files`.
    package var late: Int
    /// Instances that were deleted in Orthanc while the export ran; they are not among `files`.
    package var vanished: Int
    /// Seconds.
    package var duration: Double
}

/// Downloads the instances of series into a folder:
/// `<folder>/<seriesId>/<instanceId>.dcm` for studies and patients, `<folder>/<instanceId>.dcm` for a series.
///
/// A file has its name only once its checksum is right and it is on the disk, so an export that is repeated fetches what is missing.
package struct InstanceExport: Sendable {
    package struct Configuration: Sendable {
        /// Downloads at once.
        package var parallelism = 6
        /// Bytes that must stay free on the disk.
        package var reserve: Int64 = 64 << 20
        /// Fetches of one instance before its failure is the export's.
        package var attempts = 3
        /// Wait before the second attempt, doubled before each further one.
        package var retryDelay = Duration.milliseconds(250)

        package init() {}
    }

    private let client: OrthancClient
    private let configuration: Configuration
    private let logger: Logger
    private let isStillMine: @Sendable () -> Bool

    /// - Parameter isStillMine: asked before each file gets its name; once it says no the export ends with `CancellationError`.
    package init(
        client: OrthancClient,
        configuration: Configuration = Configuration(),
        logger: Logger,
        isStillMine: @escaping @Sendable () -> Bool = { true }
    ) {
        self.client = client
        self.configuration = configuration
        self.logger = logger
        self.isStillMine = isStillMine
    }

    /// - Parameters:
    ///   - level: of the event; decides the layout.
    ///   - resourceID: Orthanc's id of the series, study or patient.
    ///   - series: Orthanc's ids of the series to fetch; each must belong to the resource.
    ///   - folder: made when missing. Belongs to this run alone: images in it that Orthanc no longer lists are removed.
    ///   - onProgress: called at most some times a second, from any thread.
    /// - Throws: ``OrthancError`` (`.notFound` when the resource or a series is gone), ``ExportError`` or `CancellationError`.
    ///   Complete files stay for the next attempt; temporary ones do not.
    package func run(
        level: ResourceLevel,
        resourceID: String,
        series: [String],
        into folder: URL,
        onProgress: @escaping @Sendable (ExportProgress) -> Void = { _ in }
    ) async throws -> ExportSummary {
        let start = ContinuousClock.now
        let resource = try client.identifier(resourceID)
        let wanted = try series.map(client.identifier)
        try await checkMembership(of: wanted, in: resource, level)

        var inventory = try await takeInventory(of: wanted)
        let tally = ExportTally(onProgress: onProgress)
        let folders = try await prepare(folder, for: inventory, level)
        let first = try await fetch(inventory, into: folders, tally)
        let arrived = try await fetchLateInstances(of: wanted, &inventory, into: folders, tally)
        let vanished = first.vanished.union(arrived.vanished)
        try await checkDeletion(of: vanished, in: wanted)
        try await ExportFolder.blocking {
            for folder in folders.values { try folder.sync() }
            try ExportFolder(url: folder).sync()
        }

        let kept = inventory.filter { !vanished.contains($0.id) }
        let summary = ExportSummary(
            files: kept.count,
            bytes: kept.reduce(0) { $0 + $1.fileSize },
            resumed: first.resumed + arrived.resumed,
            unverified: first.unverified + arrived.unverified,
            late: arrived.count,
            vanished: vanished.count,
            duration: (ContinuousClock.now - start) / .seconds(1)
        )
        logger.debug(
            "Images exported",
            metadata: [
                "orthanc.id": "\(resource)", "files": "\(summary.files)", "bytes": "\(summary.bytes)", "resumed": "\(summary.resumed)",
                "seconds": "\(summary.duration)",
            ]
        )
        return summary
    }

    /// A series of somebody else must never come into this run's folder, whatever a message says.
    private func checkMembership(of series: [OrthancID], in resource: OrthancID, _ level: ResourceLevel) async throws {
        let members: Set<OrthancID>
        switch level {
        case .series: members = [try await client.series(resource).id]
        case .study: members = Set(try await client.study(resource).series)
        case .patient: members = Set(try await client.studies(ofPatient: resource).flatMap(\.series))
        }
        if let stranger = series.first(where: { !members.contains($0) }) {
            throw OrthancError(
                .notFound, server: client.endpoint.name, path: "/series/\(stranger)",
                message: "the \(level.rawValue) \(resource) has no such series"
            )
        }
    }

    private func takeInventory(of series: [OrthancID]) async throws -> [OrthancInstance] {
        var inventory: [OrthancInstance] = []
        for id in series {
            inventory += try await client.instances(ofSeries: id)
        }
        return inventory
    }

    private func prepare(_ root: URL, for inventory: [OrthancInstance], _ level: ResourceLevel) async throws -> [OrthancID: ExportFolder] {
        try await ExportFolder.blocking {
            var folders: [OrthancID: ExportFolder] = [:]
            for (series, instances) in Dictionary(grouping: inventory, by: \.series) {
                let folder = ExportFolder(url: level == .series ? root : root.appending(path: series.rawValue, directoryHint: .isDirectory))
                try folder.create()
                try folder.removeLeftovers(keeping: Set(instances.map(\.id)))
                folders[series] = folder
            }
            try ExportFolder(url: root).create()
            return folders
        }
    }

    /// Orthanc may have taken in more instances meanwhile. Bounded: a scanner that keeps sending gets a later event anyway.
    private func fetchLateInstances(
        of series: [OrthancID], _ inventory: inout [OrthancInstance], into folders: [OrthancID: ExportFolder], _ tally: ExportTally
    ) async throws -> Outcome {
        var total = Outcome()
        for _ in 1...3 {
            let known = Set(inventory.map(\.id))
            let now = try await takeInventory(of: series)
            total.vanished.formUnion(known.subtracting(now.map(\.id)))
            let new = now.filter { !known.contains($0.id) && folders[$0.series] != nil }
            if new.isEmpty { break }
            let outcome = try await fetch(new, into: folders, tally)
            inventory += new
            total.count += outcome.count
            total.resumed += outcome.resumed
            total.unverified += outcome.unverified
            total.vanished.formUnion(outcome.vanished)
        }
        for instance in inventory where total.vanished.contains(instance.id) {
            folders[instance.series]?.remove(instance.id)
        }
        return total
    }

    /// An instance without a file that Orthanc still lists was not deleted, and images without it are not all images.
    private func checkDeletion(of vanished: Set<OrthancID>, in series: [OrthancID]) async throws {
        if vanished.isEmpty { return }
        let listed = try await takeInventory(of: series).first { vanished.contains($0.id) }
        guard let listed else { return }
        throw OrthancError(
            .serverFailure, server: client.endpoint.name, path: "/instances/\(listed.id)/file", status: 404,
            message: "lists an instance whose file it does not give",
            cure:
                "Is Orthanc's storage folder complete? Its own log says more; deleting the instance in Orthanc makes the others available."
        )
    }

    private struct Outcome: Sendable {
        var count = 0
        var resumed = 0
        var unverified = 0
        var vanished: Set<OrthancID> = []
    }

    private enum Fetched: Sendable {
        case downloaded(isVerified: Bool)
        case resumed(isVerified: Bool)
        case vanished
    }

    private func fetch(
        _ instances: [OrthancInstance], into folders: [OrthancID: ExportFolder], _ tally: ExportTally
    ) async throws -> Outcome {
        try await checkRoom(for: instances, in: folders)
        tally.expect(instances)
        return try await withThrowingTaskGroup(of: (OrthancInstance, Fetched).self) { group in
            var rest = instances[...]
            func startNext() {
                guard let instance = rest.popFirst(), let folder = folders[instance.series] else { return }
                group.addTask { (instance, try await self.fetch(instance, into: folder, tally)) }
            }
            for _ in 0..<configuration.parallelism { startNext() }
            var outcome = Outcome()
            for try await (instance, fetched) in group {
                startNext()
                outcome.count += 1
                switch fetched {
                case .downloaded(let isVerified):
                    outcome.unverified += isVerified ? 0 : 1
                case .resumed(let isVerified):
                    outcome.resumed += 1
                    outcome.unverified += isVerified ? 0 : 1
                case .vanished:
                    outcome.vanished.insert(instance.id)
                }
                tally.finishFile()
            }
            return outcome
        }
    }

    private func checkRoom(for instances: [OrthancInstance], in folders: [OrthancID: ExportFolder]) async throws {
        guard let anywhere = folders.values.first else { return }
        let reserve = configuration.reserve
        try await ExportFolder.blocking {
            let missing = instances.reduce(into: Int64(0)) { sum, instance in
                if folders[instance.series]?.size(of: instance.id) != instance.fileSize { sum += instance.fileSize }
            }
            let available = try anywhere.available()
            guard missing == 0 || missing + reserve <= available else {
                throw ExportError.diskFull(needed: missing + reserve, available: available, folder: anywhere.url.path)
            }
        }
    }

    private func fetch(_ instance: OrthancInstance, into folder: ExportFolder, _ tally: ExportTally) async throws -> Fetched {
        var attempt = 1
        while true {
            do {
                return try await fetchOnce(instance, into: folder, tally)
            } catch let error as OrthancError where error.code == .notFound {
                // One deleted instance is not the end; the series being gone is. The next listing says which it was.
                return .vanished
            } catch let error where attempt < configuration.attempts && Self.mayPass(error) {
                logger.debug(
                    "Instance is fetched again", metadata: ["orthanc.id": "\(instance.id)", "attempt": "\(attempt)", "error": "\(error)"])
                try await Task.sleep(for: configuration.retryDelay * (1 << (attempt - 1)))
                attempt += 1
            }
        }
    }

    private static func mayPass(_ error: any Error) -> Bool {
        switch error {
        case let error as OrthancError: error.isRetriable
        case ExportError.checksum: true
        default: false
        }
    }

    private func fetchOnce(_ instance: OrthancInstance, into folder: ExportFolder, _ tally: ExportTally) async throws -> Fetched {
        let expected = try await client.md5(ofInstance: instance.id)
        if try await isComplete(instance, expected, in: folder) {
            tally.add(instance.fileSize)
            return .resumed(isVerified: expected != nil)
        }
        var file = try ExportedFile(instance.id, in: folder)
        let descriptor = file.descriptor
        let attempt = tally.startFile()
        do {
            let received = try await client.download(instance: instance.id, to: descriptor) { attempt.add($0) }
            guard received == instance.fileSize else {
                throw OrthancError(
                    .interrupted, server: client.endpoint.name, path: "/instances/\(instance.id)/file",
                    message: "the file arrived with \(received) bytes instead of \(instance.fileSize)"
                )
            }
            try await ExportFolder.blocking {
                if let expected {
                    let actual = try ExportFolder.md5(of: descriptor)
                    guard actual == expected else {
                        throw ExportError.checksum(instance: instance.id.rawValue, expected: expected, actual: actual)
                    }
                }
                guard fsync(descriptor) == 0 else { throw ExportFolder.failure(folder.path(of: instance.id)) }
            }
            guard isStillMine() else { throw CancellationError() }
            try file.commit()
        } catch {
            attempt.takeBack()
            throw try translate(error, instance, folder)
        }
        return .downloaded(isVerified: expected != nil)
    }

    private func isComplete(_ instance: OrthancInstance, _ expected: String?, in folder: ExportFolder) async throws -> Bool {
        try await ExportFolder.blocking {
            guard folder.size(of: instance.id) == instance.fileSize else { return false }
            return expected == nil || folder.md5(of: instance.id) == expected
        }
    }

    /// A write that failed is the folder's fault, not Orthanc's.
    private func translate(_ error: any Error, _ instance: OrthancInstance, _ folder: ExportFolder) throws -> any Error {
        guard let error = error as? OrthancError, error.code == .unwritable, let number = error.systemError else { return error }
        guard number == ENOSPC || number == EDQUOT else { return ExportFolder.failure(folder.path(of: instance.id), number) }
        return ExportError.diskFull(needed: instance.fileSize, available: (try? folder.available()) ?? 0, folder: folder.url.path)
    }
}

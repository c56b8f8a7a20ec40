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
    /// Of these, what came over the network.
    package var fetchedBytes: Int64
    /// Since the start.
    package var seconds: Double

    /// Over the whole time so far.
    package var bytesPerSecond: Double { seconds > 0 ? Double(fetchedBytes) / seconds : 0 }
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
    /// Instances that arrived in Orthanc, or were replaced there, while the export ran; they are among `files`.
    package var late: Int
    /// Instances that were deleted in Orthanc while the export ran; they are not among `files`.
    package var vanished: Int
    /// What came over the network, repetitions that failed left out.
    package var fetchedBytes: Int64
    /// Seconds.
    package var duration: Double
}

/// Downloads the instances of series into a folder:
/// `<folder>/<seriesId>/<instanceId>.dcm` for studies and patients, `<folder>/<instanceId>.dcm` for a series.
///
/// A file has its name only once its length and its checksum are right, so an export that is repeated fetches what is missing.
package struct InstanceExport: Sendable {
    package struct Configuration: Sendable {
        /// Bytes that must stay free on the disk.
        package var reserve: Int64 = 256 << 20
        /// Tries of one request before its failure is the export's.
        package var attempts = 3
        /// Wait before the second try, doubled before each further one.
        package var retryDelay = Duration.milliseconds(250)
        /// How long a server may refuse connections: the time that Orthanc takes to restart.
        package var patience = Duration.seconds(30)
        /// Bytes that are left on the disk of a folder. Tests have their own reading.
        var space: @Sendable (ExportFolder) throws -> (available: Int64, unit: Int64) = { try $0.space() }

        package init() {}
    }

    /// Files up to this size go through memory, written in one piece and checked on the way; larger ones go straight to the disk.
    private static let wholeFileLimit: Int64 = 2 << 20

    private let client: OrthancClient
    private let configuration: Configuration
    private let logger: Logger
    private let isStillMine: @Sendable () -> Bool

    /// - Parameter isStillMine: asked before files are removed and before each one gets its name; once it says no the export ends with
    ///   `CancellationError`.
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
    ///   - path: of the folder, relative to `root`; made when missing. It belongs to this run alone: images in it that Orthanc no longer lists
    ///     are removed. No link is followed on the way.
    ///   - root: DATA.
    ///   - onProgress: called at most some times a second, from any thread.
    /// - Throws: ``OrthancError`` (`.notFound` when the resource or a series is gone), ``ExportError`` or `CancellationError`.
    ///   Complete files stay for the next attempt, unless the disk is full; temporary ones do not.
    package func run(
        level: ResourceLevel,
        resourceID: String,
        series: [String],
        into path: String,
        of root: URL,
        onProgress: @escaping @Sendable (ExportProgress) -> Void = { _ in }
    ) async throws -> ExportSummary {
        let start = ContinuousClock.now
        let source = Source(level: level, resource: try client.identifier(resourceID), series: try series.map(client.identifier))
        let tally = ExportTally(onProgress: onProgress)

        let listing = try await list(source)
        let inventory = try await takeInventory(of: source.series)
        let target = try await prepare(path, of: root, for: inventory, source)
        var total = Outcome()
        do {
            total = try await fetch(inventory, into: target, tally)
            try await followChanges(since: listing, of: source, &total, into: target, tally)
            try await checkDeletion(of: total.vanished, in: source.series)
            try await makeDurable(target, tally)
        } catch let error as ExportError where error.isFullDisk && isStillMine() {
            // A part of the images is of no use to anybody, and everything else on this disk needs the room.
            try? await ExportFolder.blocking { try target.discard() }
            throw error
        }
        let summary = ExportSummary(
            files: total.stored.count,
            bytes: total.stored.values.reduce(0) { $0 + $1.fileSize },
            resumed: total.resumed,
            unverified: total.unverified,
            late: total.late,
            vanished: total.vanished.count,
            fetchedBytes: tally.fetchedBytes,
            duration: (ContinuousClock.now - start) / .seconds(1)
        )
        logger.debug(
            "Images exported",
            metadata: [
                "orthanc.id": "\(source.resource)", "files": "\(summary.files)", "bytes": "\(summary.bytes)",
                "resumed": "\(summary.resumed)", "seconds": "\(summary.duration)",
            ]
        )
        return summary
    }

    private struct Source: Sendable {
        var level: ResourceLevel
        var resource: OrthancID
        var series: [OrthancID]
    }

    /// What became of the instances.
    private struct Outcome: Sendable {
        /// As they were when they were fetched.
        var stored: [OrthancID: OrthancInstance] = [:]
        var resumed = 0
        var unverified = 0
        var late = 0
        var vanished: Set<OrthancID> = []

        mutating func add(_ other: Outcome) {
            stored.merge(other.stored) { _, new in new }
            resumed += other.resumed
            unverified += other.unverified
            vanished = vanished.subtracting(other.stored.keys).union(other.vanished)
        }
    }

    // MARK: What there is

    /// The wanted series as Orthanc has them now, in one request.
    ///
    /// A series of somebody else must never come into this run's folder, whatever a message says.
    private func list(_ source: Source) async throws -> [OrthancID: OrthancSeries] {
        let all = try await persistently {
            switch source.level {
            case .series: [try await client.series(source.resource)]
            case .study: try await client.series(ofStudy: source.resource)
            case .patient: try await client.series(ofPatient: source.resource)
            }
        }
        let members = Dictionary(all.map { ($0.id, $0) }) { first, _ in first }
        if let stranger = source.series.first(where: { members[$0] == nil }) {
            throw OrthancError(
                .notFound, server: client.endpoint.name, path: "/series/\(stranger)",
                message: "the \(source.level.rawValue) \(source.resource) has no such series"
            )
        }
        let wanted = Set(source.series)
        return members.filter { wanted.contains($0.key) }
    }

    private func takeInventory(of series: [OrthancID]) async throws -> [OrthancInstance] {
        var inventory: [OrthancInstance] = []
        for id in series {
            inventory += try await persistently { try await client.instances(ofSeries: id) }
        }
        return inventory
    }

    /// Orthanc may have taken in or replaced instances meanwhile. Bounded: a scanner that keeps sending gets a later event anyway.
    private func followChanges(
        since listing: [OrthancID: OrthancSeries], of source: Source, _ total: inout Outcome, into target: ExportTarget,
        _ tally: ExportTally
    ) async throws {
        var last = listing
        for _ in 1...3 {
            let now = try await list(source)
            // Whoever replaces an instance, as whoever adds or deletes one, changes one of the two. So a series at rest costs no inventory,
            // which takes Orthanc as long as sending a tenth of the images.
            let changed = source.series.filter { now[$0]?.lastUpdate != last[$0]?.lastUpdate || now[$0]?.instances != last[$0]?.instances }
            last = now
            if changed.isEmpty { break }
            let inventory = try await takeInventory(of: changed)
            let listed = Set(inventory.map(\.id))
            let deleted = total.stored.values.filter { changed.contains($0.series) && !listed.contains($0.id) }
            total.vanished.formUnion(deleted.map(\.id))
            let new = inventory.filter { total.stored[$0.id]?.isSameFile(as: $0) != true && !total.vanished.contains($0.id) }
            total.add(try await fetch(new, into: target, tally))
            total.late += new.count
        }
        for id in total.vanished {
            if let instance = total.stored.removeValue(forKey: id) { target.folder(of: instance)?.remove(id) }
        }
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

    // MARK: Folders

    private func prepare(_ path: String, of root: URL, for inventory: [OrthancInstance], _ source: Source) async throws -> ExportTarget {
        let (configuration, isStillMine) = (configuration, isStillMine)
        return try await ExportFolder.blocking {
            guard isStillMine() else { throw CancellationError() }
            var draft = try ExportTarget.Draft(path, of: root, isFlat: source.level == .series)
            try draft.tidy(keeping: inventory, of: source.series)
            let (available, unit) = try configuration.space(draft.deepest)
            let needed = draft.missingBytes(of: inventory, unit: unit)
            // Before anything is made: half a folder helps nobody.
            guard needed == 0 || needed + configuration.reserve <= available else {
                throw ExportError.diskFull(
                    needed: needed, reserve: configuration.reserve, available: available, folder: draft.deepest.path)
            }
            return try draft.make(source.series)
        }
    }

    /// When this has returned, all images are on the disk and not only on their way to it.
    ///
    /// Nobody reads a file before the job is said to have succeeded, and an export that is repeated trusts no file whose checksum it has
    /// not computed. So what counts is that all files are durable before that success is reported; which of them a power cut takes earlier
    /// does not matter. One `syncfs` waits for the disk once: an `fsync` a file waits for it each time (3 ms a file, 6 s for 2,000 small
    /// ones, against 0.1 s). What others write to the same file system is waited for too; the disk has been at work on ours since each file
    /// was closed. An error of any write since DATA was opened is told here (Linux 5.8 and newer).
    private func makeDurable(_ target: ExportTarget, _ tally: ExportTally) async throws {
        do {
            try await ExportFolder.blocking { try target.run.sync() }
        } catch let failure as FileFailure {
            throw translate(failure, target.run.path, target, tally)
        }
    }

    // MARK: Fetching

    private func fetch(_ instances: [OrthancInstance], into target: ExportTarget, _ tally: ExportTally) async throws -> Outcome {
        if instances.isEmpty { return Outcome() }
        tally.expect(instances)
        let queue = Queue(instances)
        // More than there are connections: those must not rest while a batch is checked and written.
        let batches = (client.parallelism + ParallelMD5.width - 1) / ParallelMD5.width + 1
        return try await withThrowingTaskGroup(of: Outcome.self) { group in
            for _ in 0..<batches {
                group.addTask {
                    var outcome = Outcome()
                    while let batch = queue.next() {
                        try Task.checkCancellation()
                        outcome.add(try await self.fetch(batch: batch, into: target, tally))
                    }
                    return outcome
                }
            }
            return try await group.reduce(into: Outcome()) { $0.add($1) }
        }
    }

    private final class Queue: Sendable {
        private let rest: Mutex<ArraySlice<OrthancInstance>>

        init(_ instances: [OrthancInstance]) { rest = Mutex(instances[...]) }

        /// As many as can be checked at once.
        func next() -> [OrthancInstance]? {
            rest.withLock { rest in
                defer { rest = rest.dropFirst(ParallelMD5.width) }
                return rest.isEmpty ? nil : Array(rest.prefix(ParallelMD5.width))
            }
        }
    }

    private enum Arrival: Sendable {
        case resumed(OrthancInstance)
        /// Large: checked and stored.
        case onDisk(OrthancInstance, isVerified: Bool)
        case inMemory(Received)
        case vanished(OrthancID)
    }

    private struct Received: Sendable {
        var instance: OrthancInstance
        var bytes: Data
        /// The checksum that Orthanc stored.
        var expected: String?
        var attempt: ExportTallyFile
    }

    private func fetch(batch: [OrthancInstance], into target: ExportTarget, _ tally: ExportTally) async throws -> Outcome {
        var outcome = Outcome()
        var received: [Received] = []
        let arrivals = try await withThrowingTaskGroup(of: Arrival.self) { group in
            for instance in batch {
                group.addTask { try await self.receive(instance, failures: 0, target, tally) }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        for arrival in arrivals { note(arrival, &outcome, &received) }
        let damaged = try await store(received, into: target, tally, &outcome)
        for (instance, _) in damaged {
            try await fetchAgain(instance, into: target, tally, &outcome)
        }
        for _ in batch { tally.finishFile() }
        return outcome
    }

    private func note(_ arrival: Arrival, _ outcome: inout Outcome, _ received: inout [Received]) {
        switch arrival {
        case .resumed(let instance):
            outcome.stored[instance.id] = instance
            outcome.resumed += 1
        case .onDisk(let instance, let isVerified):
            outcome.stored[instance.id] = instance
            outcome.unverified += isVerified ? 0 : 1
        case .inMemory(let file): received.append(file)
        case .vanished(let id): outcome.vanished.insert(id)
        }
    }

    /// An instance that arrived damaged once.
    private func fetchAgain(
        _ instance: OrthancInstance, into target: ExportTarget, _ tally: ExportTally, _ outcome: inout Outcome
    ) async throws {
        for failures in 1..<max(2, configuration.attempts) {
            try await Task.sleep(for: configuration.retryDelay * (1 << (failures - 1)))
            var received: [Received] = []
            note(try await receive(instance, failures: failures, target, tally), &outcome, &received)
            guard let (_, error) = try await store(received, into: target, tally, &outcome).first else { return }
            if failures + 1 >= configuration.attempts { throw error }
        }
    }

    /// - Parameter failures: of earlier tries.
    private func receive(
        _ listed: OrthancInstance, failures: Int, _ target: ExportTarget, _ tally: ExportTally
    ) async throws -> Arrival {
        var isRepetition = failures > 0
        do {
            return try await persistently(failures: failures) {
                // It may have been replaced since it was listed, by one of another size.
                let instance = isRepetition ? try await client.instance(listed.id) : listed
                isRepetition = true
                return try await receiveOnce(instance, target, tally)
            }
        } catch let error as OrthancError where error.code == .notFound {
            // One deleted instance is not the end; the series being gone is. The next listing says which it was.
            return .vanished(listed.id)
        }
    }

    /// Tries again what may pass: damage and refusals some times, a server that is away for as long as a restart takes.
    private func persistently<Value>(failures: Int = 0, _ body: () async throws -> Value) async throws -> Value {
        var failures = failures
        var pause = configuration.retryDelay
        var absentSince: ContinuousClock.Instant?
        while true {
            do {
                return try await body()
            } catch let error where Self.mayPass(error) {
                let now = ContinuousClock.now
                if (error as? OrthancError)?.code == .unreachable {
                    let since = absentSince ?? now
                    absentSince = since
                    guard now - since < configuration.patience else { throw error }
                } else {
                    absentSince = nil
                    failures += 1
                    guard failures < configuration.attempts else { throw error }
                }
                logger.debug("Orthanc is asked again", metadata: ["error": "\(error)"])
                try await Task.sleep(for: pause)
                pause = min(pause * 2, .seconds(2))
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

    private func receiveOnce(_ instance: OrthancInstance, _ target: ExportTarget, _ tally: ExportTally) async throws -> Arrival {
        guard let folder = target.folder(of: instance) else {
            preconditionFailure("an instance was listed of a series that nobody asked for")
        }
        let expected = try await client.md5(ofInstance: instance.id)
        // Without a checksum no file is trusted: after a power cut it may have its length and nothing in it.
        if let expected, target.sizes[instance.id] == instance.fileSize {
            let actual = try await ExportFolder.blocking { folder.md5(of: instance.id) }
            if actual == expected {
                tally.resume(instance.fileSize)
                return .resumed(instance)
            }
        }
        let attempt = tally.startFile()
        do {
            if instance.fileSize > Self.wholeFileLimit {
                try await receiveOnDisk(instance, expected, into: folder, attempt)
                return .onDisk(instance, isVerified: expected != nil)
            }
            let bytes = try await client.file(ofInstance: instance.id, expecting: instance.fileSize, limit: 2 * Self.wholeFileLimit) {
                attempt.add($0)
            }
            try check(Int64(bytes.count), of: instance)
            return .inMemory(Received(instance: instance, bytes: bytes, expected: expected, attempt: attempt))
        } catch {
            attempt.takeBack()
            switch error {
            case let failure as FileFailure: throw translate(failure, folder.path(of: instance.id), target, tally)
            case let error as OrthancError where error.code == .unwritable:
                throw translate(FileFailure(number: error.systemError ?? EIO), folder.path(of: instance.id), target, tally)
            default: throw error
            }
        }
    }

    private func receiveOnDisk(
        _ instance: OrthancInstance, _ expected: String?, into folder: ExportFolder, _ attempt: ExportTallyFile
    ) async throws {
        let file = try await ExportFolder.blocking { try ExportedFile(instance.id, in: folder) }
        let received = try await client.download(instance: instance.id, to: file.descriptor) { attempt.add($0) }
        try check(received, of: instance)
        let isStillMine = isStillMine
        try await ExportFolder.blocking {
            if let expected {
                let actual = try file.md5()
                guard actual == expected else {
                    throw ExportError.checksum(instance: instance.id.rawValue, expected: expected, actual: actual)
                }
            }
            guard isStillMine() else { throw CancellationError() }
            try file.commit(size: instance.fileSize)
        }
    }

    /// Checks the files all at once, and writes those that are right.
    /// - Returns: those that are not.
    private func store(
        _ received: [Received], into target: ExportTarget, _ tally: ExportTally, _ outcome: inout Outcome
    ) async throws -> [(OrthancInstance, ExportError)] {
        if received.isEmpty { return [] }
        let isStillMine = isStillMine
        let (damaged, failure) = try await ExportFolder.blocking { () -> ([Int: ExportError], (path: String, cause: FileFailure)?) in
            var damaged: [Int: ExportError] = [:]
            let digests = ParallelMD5.hexadecimal(of: received.map(\.bytes))
            for (index, file) in received.enumerated() {
                if let expected = file.expected, digests[index] != expected {
                    file.attempt.takeBack()
                    damaged[index] = .checksum(instance: file.instance.id.rawValue, expected: expected, actual: digests[index])
                    continue
                }
                guard isStillMine() else { throw CancellationError() }
                guard let folder = target.folder(of: file.instance) else { continue }
                do {
                    try Self.write(file, into: folder)
                } catch let cause as FileFailure {
                    // Counted as missing, with those that follow.
                    received[index...].forEach { $0.attempt.takeBack() }
                    return (damaged, (folder.path(of: file.instance.id), cause))
                }
            }
            return (damaged, nil)
        }
        if let failure { throw translate(failure.cause, failure.path, target, tally) }
        for (index, file) in received.enumerated() where damaged[index] == nil {
            outcome.stored[file.instance.id] = file.instance
            outcome.unverified += file.expected == nil ? 1 : 0
        }
        return damaged.map { (received[$0.key].instance, $0.value) }
    }

    private static func write(_ received: Received, into folder: ExportFolder) throws {
        let file = try ExportedFile(received.instance.id, in: folder)
        try file.write(received.bytes)
        try file.commit(size: received.instance.fileSize)
    }

    private func check(_ received: Int64, of instance: OrthancInstance) throws {
        guard received != instance.fileSize else { return }
        throw OrthancError(
            .interrupted, server: client.endpoint.name, path: "/instances/\(instance.id)/file",
            message: "the file arrived with \(received) bytes instead of \(instance.fileSize)"
        )
    }

    private func translate(_ failure: FileFailure, _ path: String, _ target: ExportTarget, _ tally: ExportTally) -> ExportError {
        guard failure.isFull else { return ExportFolder.failure(path, failure.number) }
        let available = (try? configuration.space(target.run))?.available ?? 0
        return .diskFull(needed: tally.missingBytes, reserve: 0, available: available, folder: target.run.path)
    }
}

extension ExportError {
    fileprivate var isFullDisk: Bool {
        if case .diskFull = self { true } else { false }
    }
}

extension OrthancInstance {
    /// Orthanc gives each file that it stores a name of its own, the one that replaces another one too.
    fileprivate func isSameFile(as other: OrthancInstance) -> Bool {
        fileUUID == other.fileUUID && fileSize == other.fileSize
    }
}

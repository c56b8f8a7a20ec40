import Foundation
import Jobs
import Logging
import Orthanc
import Pipeline

/// The built-in job that writes a run's images under DATA.
struct ExportJob: Sendable {
    let servers: ExportServers
    let configuration: InstanceExport.Configuration
    let data: URL
    let logger: Logger

    func run(
        _ order: JobOrder,
        isStillMine: @escaping @Sendable () -> Bool,
        onProgress: @escaping @Sendable (RenewMessage.Progress) -> Void
    ) async -> JobExit {
        let startedAt = Date()
        do {
            let client = try servers.client(order.source.server)
            let export = InstanceExport(client: client, configuration: configuration, logger: logger, isStillMine: isStillMine)
            let summary = try await withTimeout(order.definition.timeout) {
                try await export.run(
                    level: order.source.level,
                    resourceID: order.source.resourceID,
                    series: order.source.series.map(\.id),
                    into: order.source.dcmpath,
                    of: data,
                    onProgress: { onProgress(RenewMessage.Progress($0)) }
                )
            }
            return .exported(summary, startedAt: startedAt, finishedAt: Date())
        } catch {
            return .exportFailed(error, timeout: order.definition.timeout, startedAt: startedAt, finishedAt: Date())
        }
    }

    private func withTimeout<Value: Sendable>(
        _ timeout: JobTimeout,
        _ body: @escaping @Sendable () async throws -> Value
    ) async throws -> Value {
        guard let seconds = timeout.seconds else { return try await body() }
        return try await withThrowingTaskGroup(of: Value.self) { group in
            group.addTask { try await body() }
            group.addTask {
                try await Task.sleep(for: .seconds(seconds))
                throw ExportTimeout()
            }
            defer { group.cancelAll() }
            guard let first = try await group.next() else { preconditionFailure("a group with two children has a first result") }
            return first
        }
    }
}

struct ExportTimeout: Error {}

extension RenewMessage.Progress {
    init(_ progress: ExportProgress) {
        let fraction = progress.totalBytes > 0 ? Double(progress.bytes) / Double(progress.totalBytes) : 0
        // Of little, a whole megabyte is too coarse.
        let places = progress.totalBytes < 10_000_000 ? 1 : 0
        func megabytes(_ bytes: Double) -> String { String(format: "%.\(places)f", bytes / 1_000_000) }
        self.init(
            fraction: min(1, fraction),
            text: "\(progress.files) of \(progress.totalFiles) \(progress.totalFiles == 1 ? "image" : "images"), "
                + "\(megabytes(Double(progress.bytes))) of \(megabytes(Double(progress.totalBytes))) MB, "
                + "\(megabytes(progress.bytesPerSecond)) MB/s"
        )
    }
}

extension JobExit {
    static func exported(_ summary: ExportSummary, startedAt: Date, finishedAt: Date) -> JobExit {
        JobExit(
            outcome: .succeeded,
            kind: .completed,
            result: [
                "files": .integer(Int64(summary.files)), "bytes": .integer(summary.bytes), "resumed": .integer(Int64(summary.resumed)),
                "unverified": .integer(Int64(summary.unverified)), "late": .integer(Int64(summary.late)),
                "vanished": .integer(Int64(summary.vanished)), "fetchedBytes": .integer(summary.fetchedBytes),
                "seconds": .number(summary.duration),
            ],
            usage: Usage(wall: summary.duration),
            startedAt: startedAt,
            finishedAt: finishedAt
        )
    }

    /// What an export's error means for the job: whether it is gone for good, the machine's fault, or worth another try.
    static func exportFailed(_ error: any Error, timeout: JobTimeout, startedAt: Date, finishedAt: Date) -> JobExit {
        func failed(_ kind: Kind, _ type: String, _ message: String, isRetriable: Bool) -> JobExit {
            JobExit(
                outcome: .failed,
                kind: kind,
                failure: Failure(type: type, message: message),
                usage: Usage(wall: finishedAt.timeIntervalSince(startedAt)),
                startedAt: startedAt,
                finishedAt: finishedAt,
                isRetriable: isRetriable
            )
        }
        switch error {
        case is CancellationError:
            return JobExit(outcome: .cancelled, kind: .cancelled, startedAt: startedAt, finishedAt: finishedAt)
        case let error as UnknownServer:
            // Another worker may know it, and this one after a change of its settings.
            return failed(.resources, "UnknownServer", "\(error)", isRetriable: true)
        case is ExportTimeout:
            let text = "The export took longer than its timeout of \(timeout.seconds ?? 0) s. What has arrived is kept for the next one."
            return failed(.timeout, "JobTimeout", text, isRetriable: true)
        case let error as OrthancError where error.code == .notFound:
            return failed(.gone, "OrthancError.\(error.code)", "\(error)", isRetriable: false)
        case let error as OrthancError where error.code == .unwritable:
            return failed(.resources, "OrthancError.\(error.code)", "\(error)", isRetriable: true)
        case let error as OrthancError where error.code == .invalidIdentifier:
            return failed(.exception, "OrthancError.\(error.code)", "\(error)", isRetriable: false)
        case let error as OrthancError:
            return failed(.exception, "OrthancError.\(error.code)", "\(error)", isRetriable: true)
        case let error as ExportError:
            switch error {
            case .diskFull: return failed(.resources, "ExportError.diskFull", "\(error)", isRetriable: false)
            case .unwritable: return failed(.resources, "ExportError.unwritable", "\(error)", isRetriable: true)
            case .unconfined: return failed(.resources, "ExportError.unconfined", "\(error)", isRetriable: false)
            case .checksum: return failed(.exception, "ExportError.checksum", "\(error)", isRetriable: true)
            }
        default:
            return failed(.exception, "\(type(of: error))", "\(error)", isRetriable: true)
        }
    }
}

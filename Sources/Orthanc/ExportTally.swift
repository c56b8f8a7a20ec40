import Synchronization

/// Counts what an export has fetched and tells it on, at most ten times a second.
final class ExportTally: Sendable {
    private struct State {
        var progress = ExportProgress(files: 0, totalFiles: 0, bytes: 0, totalBytes: 0, fetchedBytes: 0, seconds: 0)
        var lastReport: ContinuousClock.Instant?
    }

    private let state = Mutex(State())
    private let start = ContinuousClock.now
    private let onProgress: @Sendable (ExportProgress) -> Void

    init(onProgress: @escaping @Sendable (ExportProgress) -> Void) {
        self.onProgress = onProgress
    }

    var fetchedBytes: Int64 { state.withLock { $0.progress.fetchedBytes } }
    var missingBytes: Int64 { state.withLock { $0.progress.totalBytes - $0.progress.bytes } }

    func expect(_ instances: [OrthancInstance]) {
        change(isReportDue: true) { progress in
            progress.totalFiles += instances.count
            progress.totalBytes += instances.reduce(0) { $0 + $1.fileSize }
        }
    }

    /// Counts a file that an earlier attempt had fetched.
    func resume(_ bytes: Int64) {
        change { $0.bytes += bytes }
    }

    func finishFile() {
        change { $0.files += 1 }
    }

    func startFile() -> ExportTallyFile {
        ExportTallyFile(tally: self)
    }

    fileprivate func fetch(_ bytes: Int64) {
        change {
            $0.bytes += bytes
            $0.fetchedBytes += bytes
        }
    }

    private func change(isReportDue: Bool = false, _ body: (inout ExportProgress) -> Void) {
        let due: ExportProgress? = state.withLock { state in
            body(&state.progress)
            let now = ContinuousClock.now
            let isLast = state.progress.files == state.progress.totalFiles
            if let last = state.lastReport, !isLast, !isReportDue, now - last < .milliseconds(100) { return nil }
            state.lastReport = now
            state.progress.seconds = (now - start) / .seconds(1)
            return state.progress
        }
        if let due { onProgress(due) }
    }
}

/// One attempt to fetch one file: its bytes count at once, and no longer when the attempt fails.
final class ExportTallyFile: Sendable {
    private let tally: ExportTally
    private let bytes = Mutex<Int64>(0)

    init(tally: ExportTally) {
        self.tally = tally
    }

    func add(_ count: Int) {
        bytes.withLock { $0 += Int64(count) }
        tally.fetch(Int64(count))
    }

    func takeBack() {
        tally.fetch(-bytes.withLock { $0 })
    }
}

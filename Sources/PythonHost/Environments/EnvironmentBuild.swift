import Foundation
import Glibc
import Jobs
import Logging

/// Builds one environment, or waits for whoever on this host does.
struct EnvironmentBuild: Sendable {
    /// Bytes that one step may write into the log.
    private static let logLimit = 64 << 20
    /// A log of this size is put aside before the next build.
    private static let logTurn = 4 << 20

    let recipe: EnvironmentRecipe
    let configuration: EnvironmentsConfiguration
    let logger: Logger

    private var shelf: EnvironmentShelf { EnvironmentShelf(configuration, service: recipe.service) }
    private var logFile: URL { configuration.logs.appending(path: "environments/\(recipe.service).log") }

    /// Blocking, for minutes: on a thread of its own.
    /// - Returns: the environment's interpreter; nil when it was abandoned.
    func run(isAbandoned: () -> Bool, onProgress: (String) -> Void) -> Result<String, JobExit.Failure>? {
        do {
            try FileManager.default.createDirectory(at: shelf.folder, withIntermediateDirectories: true)
            try FileManager.default.createDirectory(at: logFile.deletingLastPathComponent(), withIntermediateDirectories: true)
        } catch {
            let reason = ((error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError ?? error as NSError).localizedDescription
            return .failure(unwritable("\(reason) (\(shelf.folder.path), \(logFile.deletingLastPathComponent().path))"))
        }
        // Whoever builds may take its whole time.
        let patience = ContinuousClock.now + configuration.limit + .seconds(60)
        var hasSaidSo = false
        while !isAbandoned() {
            do throws(EnvironmentLock.Unusable) {
                if let lock = try EnvironmentLock.take(shelf.lockFile) {
                    return withExtendedLifetime(lock) { locked(isAbandoned: isAbandoned, onProgress: onProgress) }
                }
            } catch {
                return .failure(unwritable(error.reason))
            }
            guard ContinuousClock.now < patience else {
                return .failure(
                    JobExit.Failure(
                        type: "EnvironmentBusy",
                        message: "Another process on this host has been building an environment of service \(recipe.service) for more "
                            + "than \(configuration.limit / .seconds(1)) s: it holds \(shelf.lockFile.path)."
                    )
                )
            }
            if !hasSaidSo { onProgress("waits for another worker that builds the environment of \(recipe.service)") }
            hasSaidSo = true
            Thread.sleep(forTimeInterval: 0.1)
        }
        return nil
    }

    private func locked(isAbandoned: () -> Bool, onProgress: (String) -> Void) -> Result<String, JobExit.Failure>? {
        // Somebody else may have come first.
        if let python = shelf.interpreter(of: recipe.key) { return .success(python) }
        if let failure = shelf.failure(of: recipe.key, within: configuration.pause) { return .failure(failure) }
        shelf.clear()
        turnLog()
        let log = open(logFile.path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
        guard log >= 0 else { return .failure(unwritable("\(logFile.path): \(String(cString: strerror(errno)))")) }
        defer { close(log) }

        let place = shelf.place(for: recipe.key)
        let result = build(at: place, log: log, isAbandoned: isAbandoned, onProgress: onProgress)
        if case .success = result {
            shelf.touch(recipe.key)
            shelf.clear()
        } else {
            try? FileManager.default.removeItem(at: place)
        }
        if case .failure(let failure) = result { shelf.record(failure, of: recipe.key) }
        return result
    }

    private func build(
        at place: URL, log: Int32, isAbandoned: () -> Bool, onProgress: (String) -> Void
    ) -> Result<String, JobExit.Failure>? {
        let start = ContinuousClock.now
        let beginning = lseek(log, 0, SEEK_END)
        let metadata: Logger.Metadata = ["service": "\(recipe.service)", "environment": "\(recipe.key)"]
        logger.info("building a service's environment", metadata: metadata)
        for (name, step) in steps(place) {
            onProgress("environment of \(recipe.service): \(name)")
            write("\(Date().ISO8601Format()) \(ProcessInfo.processInfo.hostName) \(recipe.key): \(name)\n", to: log)
            let end = step.run(
                log: log, logLimit: Self.logLimit, deadline: start + configuration.limit, isAbandoned: isAbandoned)
            if end == .exited(0) { continue }
            write("\(Date().ISO8601Format()) \(Self.text(end, limit: configuration.limit))\n", to: log)
            if end == .abandoned {
                logger.info("building a service's environment was broken off: nobody waits for it", metadata: metadata)
                return nil
            }
            let failure = failed(name, end, lines: lastLines(of: log, since: beginning))
            let reason: Logger.Metadata = ["reason": "\(failure.message)"]
            logger.warning("a service's environment could not be built", metadata: metadata.merging(reason) { $1 })
            return .failure(failure)
        }
        if let reason = shelf.finish(place, as: recipe.key) { return .failure(unwritable(reason)) }
        guard let python = shelf.interpreter(of: recipe.key) else {
            return .failure(failed("looking for its interpreter", .exited(0), lines: lastLines(of: log, since: beginning)))
        }
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        write("\(Date().ISO8601Format()) finished after \(Int(seconds)) s\n", to: log)
        logger.info("a service's environment is ready", metadata: metadata.merging(["seconds": "\(Int(seconds))"]) { $1 })
        return .success(python)
    }

    /// The environment first and then the script, which runs inside it: its `pip install` must reach the service's own.
    private func steps(_ place: URL) -> [(name: String, step: BuildStep)] {
        let plain = configuration.variables.filter { $0.key != "PYTHONHOME" && $0.key != "PYTHONPATH" }
        var active = plain
        let bin = place.appending(path: "bin").path
        active["VIRTUAL_ENV"] = place.path
        active["PATH"] = "\(bin):\(plain["PATH"] ?? "/usr/local/bin:/usr/bin:/bin")"
        active["PIP_DISABLE_PIP_VERSION_CHECK"] = active["PIP_DISABLE_PIP_VERSION_CHECK"] ?? "1"
        active["PIP_NO_INPUT"] = active["PIP_NO_INPUT"] ?? "1"
        active["PYTHONUNBUFFERED"] = "1"

        let options = recipe.seesSystemPackages ? ["--system-site-packages"] : []
        var steps = [
            (
                "making a virtual environment",
                BuildStep(
                    executable: configuration.python,
                    arguments: ["-m", "venv"] + options + [place.path],
                    folder: shelf.folder,
                    environment: plain
                )
            )
        ]
        if let script = recipe.script {
            let step = BuildStep(executable: "/bin/bash", arguments: [script.path], folder: recipe.folder, environment: active)
            steps.append(("script.sh", step))
        }
        if let requirements = recipe.requirements {
            let step = BuildStep(
                executable: "\(bin)/python",
                arguments: ["-m", "pip", "install", "--progress-bar", "off", "-r", requirements.path],
                folder: recipe.folder,
                environment: active
            )
            steps.append(("pip install -r requirements.txt", step))
        }
        return steps
    }

    // MARK: The log

    private func turnLog() {
        guard let stamp = FileStamp(logFile.path), stamp.size > Self.logTurn else { return }
        rename(logFile.path, logFile.path + ".old")
    }

    private func write(_ line: String, to log: Int32) {
        _ = Array(line.utf8).withUnsafeBytes { Glibc.write(log, $0.baseAddress, $0.count) }
    }

    /// At most 40 lines and 8 KiB of the end.
    private func lastLines(of log: Int32, since beginning: off_t) -> String {
        let end = lseek(log, 0, SEEK_END)
        let from = max(beginning, end - 8192)
        guard end > from else { return "" }
        var bytes = [UInt8](repeating: 0, count: Int(end - from))
        let got = pread(log, &bytes, bytes.count, from)
        let text = String(decoding: bytes.prefix(max(0, got)), as: UTF8.self)
        return text.split(whereSeparator: \.isNewline).suffix(40).joined(separator: "\n")
    }

    // MARK: Failures

    private static func text(_ end: BuildStep.End, limit: Duration) -> String {
        switch end {
        case .exited(let status): "ended with status \(status)"
        case .killed(let signal): "was ended by signal \(signal)"
        case .abandoned: "was broken off: nobody waits for it any more"
        case .tookTooLong: "was ended: the build took longer than \(limit / .seconds(1)) s (ENVIRONMENTS_LIMIT)"
        case .wroteTooMuch: "was ended: it wrote more than \(logLimit >> 20) MiB into its log"
        case .notStarted(let reason): "could not be started: \(reason)"
        }
    }

    private func failed(_ step: String, _ end: BuildStep.End, lines: String) -> JobExit.Failure {
        JobExit.Failure(
            type: "EnvironmentFailed",
            message: "The environment of service \(recipe.service) could not be built: \(step) "
                + "\(Self.text(end, limit: configuration.limit)). The whole log: \(logFile.path) on \(ProcessInfo.processInfo.hostName). It is tried again by the first job after "
                + "\(Int(configuration.pause / .seconds(1))) s, or as soon as requirements.txt or script.sh has changed.",
            traceback: lines.isEmpty ? nil : lines
        )
    }

    private func unwritable(_ reason: String) -> JobExit.Failure {
        JobExit.Failure(
            type: "EnvironmentsNotWritable",
            message: "No environment of service \(recipe.service) can be built: \(reason). Check that the worker may write into "
                + "ENVIRONMENTS (\(configuration.folder.path)) and LOGS."
        )
    }
}

import Foundation
package import Jobs
package import Logging
import Synchronization

/// Asks services' callbacks whether their jobs apply to an event.
///
/// One Python process imports the callbacks and forks for each request, so that nothing of one patient is left for the next. A callback
/// that hangs or ends its process loses only its own verdict: the next one is asked in another. Requests are answered one after the
/// other.
package actor CallbackHost {
    private let configuration: PythonHostConfiguration
    private let timeout: Duration
    private let logger: Logger
    private let turnstile = Turnstile()
    private var host: CallbackProcess?
    private var requests = 0
    /// Modules that start threads when they are imported: each request imports them in its own process.
    private var withThreads: Set<String> = []

    /// - Parameter timeout: what one callback may take, its import included.
    package init(configuration: PythonHostConfiguration, timeout: Duration = .seconds(10), logger: Logger) {
        self.configuration = configuration
        self.timeout = timeout
        self.logger = logger
    }

    /// One verdict for each call, in the calls' order. What a call adds to `addedParams` is seen by the calls after it, and by nobody
    /// once this returns.
    ///
    /// - Throws: ``PythonHostError`` when no host can be started, `CancellationError`.
    package func evaluate(
        _ calls: [CallbackCall],
        headers: JSONValue,
        addedParams: [String: JSONValue]
    ) async throws -> [CallbackVerdict] {
        await turnstile.enter()
        defer { turnstile.leave() }
        var verdicts: [CallbackVerdict] = []
        var added = addedParams
        var emptyAnswers = 0
        while verdicts.count < calls.count {
            try Task.checkCancellation()
            let process = try await startedHost()
            let known = withThreads.count
            let answered = try await ask(process, calls.dropFirst(verdicts.count), headers: headers, addedParams: added)
            for verdict in answered {
                if case .accepted(let params) = verdict.outcome { added[verdict.jobName] = .object(params) }
            }
            verdicts += answered
            emptyAnswers = answered.isEmpty && withThreads.count == known ? emptyAnswers + 1 : 0
            // One is a change of code or a host that died while idle; a host that never gets to a callback is broken.
            guard emptyAnswers < 4 else {
                throw PythonHostError(.ended, "The Python host of the callbacks ended again and again before it asked any.")
            }
        }
        return verdicts
    }

    package func shutdown() async {
        host?.process.end(because: Self.shutdownReason)
        host = nil
    }

    /// Asks `calls` until all have answered or the host is of no more use.
    /// - Returns: the verdicts of the first calls, that of the call that cost the host its life included.
    private func ask(
        _ current: CallbackProcess,
        _ calls: ArraySlice<CallbackCall>,
        headers: JSONValue,
        addedParams: [String: JSONValue]
    ) async throws -> [CallbackVerdict] {
        requests += 1
        let request = requests
        var verdicts: [CallbackVerdict] = []
        current.process.send(
            .evaluate(
                .init(
                    request: request,
                    headers: headers,
                    addedParams: addedParams,
                    calls: calls.map { .init(jobName: $0.jobName, entry: $0.entry, params: $0.params, check: $0.isCheck ? true : nil) }
                )
            )
        )
        // The call that is being asked right now, and since when: the one to blame when the host ends.
        var asked: (call: Int, since: ContinuousClock.Instant)?
        var alarm = alarm(current, after: configuration.startLimit, reason: "it took no request")
        defer { alarm.cancel() }
        for await event in current.events {
            switch event {
            case .reply(.asking(request, verdicts.count)):
                alarm.cancel()
                asked = (verdicts.count, .now)
                alarm = self.alarm(current, after: timeout, reason: Self.timeoutReason)
            case .reply(.verdict(let verdict)) where verdict.request == request && verdict.call == asked?.call:
                alarm.cancel()
                asked = nil
                verdicts.append(CallbackVerdict(verdict, of: calls[calls.startIndex + verdict.call]))
            case .reply(.done(request)):
                return verdicts
            case .reply(.stale(request)):
                logger.debug("callbacks changed on disk, restarting their host")
                withThreads = []
                retire(current)
                return verdicts
            case .reply(.threads(request, let module)):
                logger.info("callback's module starts threads, importing it anew for each request", metadata: ["module": "\(module)"])
                withThreads.insert(module)
                retire(current)
                return verdicts
            case .reply:
                current.process.end(because: "an answer that nobody asked for")
            case .ended(let end):
                retire(current)
                if end.reason == Self.shutdownReason { throw PythonHostError(.ended, "The host of the callbacks was shut down.") }
                guard let asked else { return verdicts }
                let call = calls[calls.startIndex + asked.call]
                let failure = failure(of: call, end: end)
                logger.warning("callback cost its host", metadata: ["job.name": "\(call.jobName)", "failure.type": "\(failure.type)"])
                return verdicts + [
                    CallbackVerdict(
                        jobName: call.jobName,
                        outcome: .failed(failure),
                        duration: (ContinuousClock.now - asked.since) / .seconds(1),
                        output: current.process.recentOutput()
                    )
                ]
            }
        }
        // The stream ends early only for a cancelled task; the host is in the middle of somebody's code.
        current.process.end(because: "cancelled")
        retire(current)
        throw CancellationError()
    }

    private func failure(of call: CallbackCall, end: HostProcess.End) -> JobExit.Failure {
        if end.reason == Self.timeoutReason {
            return JobExit.Failure(
                type: "CallbackTimeout",
                message: "The callback \(call.entry) did not answer within \(timeout / .seconds(1)) s and was ended."
            )
        }
        return JobExit.Failure(
            type: "CallbackHostEnded",
            message: "The callback \(call.entry) ended its process: \(end.reason ?? end.text)."
        )
    }

    private func startedHost() async throws -> CallbackProcess {
        if let host, !host.process.hasEnded { return host }
        host = nil
        let (events, continuation) = AsyncStream.makeStream(of: CallbackProcess.Event.self)
        let process = try HostProcess(
            configuration.command(.callbacks),
            onReply: { continuation.yield(.reply($0)) },
            onEnd: {
                continuation.yield(.ended($0))
                continuation.finish()
            }
        )
        let current = CallbackProcess(process: process, events: events)
        process.send(.hello(.init(root: configuration.root.path, late: withThreads.sorted())))
        let alarm = alarm(current, after: configuration.startLimit, reason: "it did not greet within \(configuration.startLimit)")
        defer { alarm.cancel() }
        for await event in events {
            switch event {
            case .reply(.hello(let hello)) where hello.protocol == hostProtocol:
                logger.debug(
                    "host of callbacks started",
                    metadata: ["host.pid": "\(process.pid)", "python.version": "\(hello.python)"]
                )
                host = current
                return current
            case .reply:
                process.end(because: "it greeted in another protocol than \(hostProtocol)")
            case .ended(let end):
                throw PythonHostError(
                    .notGreeted,
                    "The Python host of the callbacks (\(configuration.python), package dcm_processor in \(configuration.hostPath.path)) "
                        + "does not start: \(end.reason ?? end.text). \(process.recentOutput(limit: 2000))"
                )
            }
        }
        process.end(because: "cancelled")
        throw CancellationError()
    }

    private func retire(_ process: CallbackProcess) {
        process.process.hangUp()
        if host === process { host = nil }
    }

    private func alarm(_ current: CallbackProcess, after delay: Duration, reason: String) -> Task<Void, Never> {
        let process = current.process
        return Task {
            do {
                try await Task.sleep(for: delay)
                process.end(because: reason)
            } catch {}  // cancelled: the answer came in time
        }
    }

    private static let shutdownReason = "shutdown"
    private static let timeoutReason = "timeout"
}

/// A running host of callbacks and what it says.
private final class CallbackProcess: Sendable {
    enum Event: Sendable {
        case reply(HostReply)
        case ended(HostProcess.End)
    }

    let process: HostProcess
    let events: AsyncStream<Event>

    init(process: HostProcess, events: AsyncStream<Event>) {
        self.process = process
        self.events = events
    }
}

extension CallbackVerdict {
    fileprivate init(_ reply: HostReply.Verdict, of call: CallbackCall) {
        let outcome: Outcome =
            if let error = reply.error {
                .failed(error.exit)
            } else if reply.accepted {
                .accepted(added: reply.added)
            } else {
                .declined
            }
        self.init(jobName: call.jobName, outcome: outcome, duration: reply.duration, output: reply.output)
    }
}

import Foundation

// A result counts once, and only with the current token.

extension Run {
    mutating func finish(
        _ index: Int, _ attempt: Int, _ token: Int, _ exit: JobExit, _ now: Date, _ effects: inout [RunEffect]
    ) {
        guard let job = existing(index), job.holdsLease(attempt, token) else {
            effects.append(.refused(Reason("stale-result", "The result's token is not the current one.")))
            return
        }
        effects.append(.attemptEnded(job: index, attempt: attempt, token: token, ending: .exit(exit)))
        jobs[index].failure = exit.failure
        switch exit.outcome {
        case .succeeded:
            jobs[index].result = exit.result
            end(index, .succeeded, Reason(.succeeded, "Ended well at attempt \(attempt)."), now)
        // However it ended: it was to end.
        case .cancelled where job.cancelRequested, .failed where job.cancelRequested, .released where job.cancelRequested:
            end(index, .cancelled, .cancelled(by: job.reason.subject), now)
        case .released where exit.kind == .resources:
            jobs[index].queuedAt = now
            // At once it would come back to the same worker, again and again.
            let lack = exit.failure?.message ?? "it has not what the job needs"
            let reason = Reason(
                .notHere, "Not for worker \(job.worker ?? "?"): \(lack). Offered again every \(Self.notHerePause.seconds) s.",
                subject: job.worker)
            makeReady(index, reason, now, after: Self.notHerePause, &effects)
        case .cancelled, .released:
            jobs[index].queuedAt = now
            let reason = Reason(.released, "Worker \(job.worker ?? "?") handed it back unfinished.", subject: job.worker)
            makeReady(index, reason, now, &effects)
        case .failed: fail(index, exit, now, &effects)
        }
    }

    private static let notHerePause = RetryDelay.thirtySeconds

    private mutating func fail(_ index: Int, _ exit: JobExit, _ now: Date, _ effects: inout [RunEffect]) {
        let job = jobs[index]
        let retry = job.definition.retry
        let failures = job.failures + 1
        let kind = JobReason(failure: exit.kind)
        jobs[index].failures = failures
        if exit.isRetriable, retry.allows(attemptAfter: failures) {
            let delay = retry.delay(afterAttempt: failures)
            let pause = delay.pause(job: jobID(index), attempt: job.attempt)
            nextAttempt(index)
            jobs[index].state = .retrying
            jobs[index].notBefore = now.addingTimeInterval(pause)
            let text = "Attempt \(job.attempt) failed (\(kind.rawValue)); retry \(failures) of \(retry.max) follows."
            jobs[index].reason = Reason(.retrying, text)
            sendHint(index, delay: delay, pause: pause, &effects)
        } else if exit.isRetriable {
            end(index, .failed, Reason(kind, "Attempt \(job.attempt) failed and none is left."), now)
        } else {
            end(index, .dead, Reason(kind, "Attempt \(job.attempt) failed in a way that trying again cannot mend."), now)
            effects.append(.deadLetter(job: index, attempt: job.attempt))
        }
    }
}

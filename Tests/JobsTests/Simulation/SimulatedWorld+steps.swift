import Foundation

@testable import Jobs

extension SimulatedWorld {
    /// - Returns: false when the step found nothing to act on.
    mutating func perform(_ step: SimulationStep) throws(Violation) -> Bool {
        guard try take(step) else { return false }
        try checkLedger()
        try checkWorkers()
        return true
    }

    private mutating func take(_ step: SimulationStep) throws(Violation) -> Bool {
        switch step {
        case .send(let pick, let fate): return send(pick, fate)
        case .confirm(let pick, let handling):
            guard !confirms.isEmpty else { return false }
            let row = confirms.remove(at: pick % confirms.count)
            try handle(handling) { world throws(Violation) in try world.confirm(row) }
        case .deliver(let pick, let worker): return deliver(pick, to: worker)
        case .loseHint(let pick):
            guard !hints.isEmpty else { return false }
            hints.remove(at: pick % hints.count)
        case .copyHint(let pick):
            guard !hints.isEmpty, hints.count < 40 else { return false }
            var copy = hints[pick % hints.count]
            // Somebody moved it by hand, or the broker's clock is ahead of ours.
            if pick.isMultiple(of: 3) { copy.due = 0 }
            hints.append(copy)
        case .handle(let pick, let handling):
            let free = messages.indices.filter { !messages[$0].isUnacknowledged }
            guard !free.isEmpty else { return false }
            let message = messages[free[pick % free.count]]
            try handle(handling) { world throws(Violation) in try world.take(message) }
        case .copyMessage(let pick):
            guard !messages.isEmpty, messages.count < 40 else { return false }
            messages.append(Message(id: nextID(), letter: messages[pick % messages.count].letter))
        case .loseMessage(let pick):
            let transient = messages.indices.filter { messages[$0].isTransient }
            guard !transient.isEmpty else { return false }
            messages.remove(at: transient[pick % transient.count])
        case .hear(let pick):
            guard !envelopes.isEmpty else { return false }
            hear(envelopes.remove(at: pick % envelopes.count))
        case .loseReply(let pick):
            guard !envelopes.isEmpty else { return false }
            envelopes.remove(at: pick % envelopes.count)
        case .askAgain(let pick): return askAgain(pick)
        case .renew(let pick): return renew(pick)
        case .end(let pick, let ending): return end(pick, ending)
        case .wait(let seconds):
            now += Double(seconds)
            // A job that must not outlive its lease is ended by its worker, whether that worker reaches us or not.
            attempts = attempts.filter { $0.token == nil || !mustEnd($0) }
        case .sweep(let isEager, let handling):
            // The router sweeps between its batches, never inside one.
            carryOut()
            try handle(handling) { world throws(Violation) in try world.sweep(isEager: isEager) }
        case .carryOut:
            guard !after.isEmpty else { return false }
            carryOut()
        case .killWorker(let worker):
            guard attempts.contains(where: { $0.worker == worker }) else { return false }
            giveHintsBack(of: worker)
            attempts.removeAll { $0.worker == worker }
        case .cutOff(let worker):
            guard !isCutOff[worker] else { return false }
            isCutOff[worker] = true
            giveHintsBack(of: worker)
        case .reconnect(let worker):
            guard isCutOff[worker] else { return false }
            reconnect(worker)
        case .restartRouter: restart()
        case .wipeBroker:
            hints.removeAll()
            messages.removeAll()
            confirms.removeAll()
            envelopes.removeAll()
            // The connection broke: what was not confirmed is sent again.
            relay = outbox.map(\.id)
        case .command(let command):
            guard messages.count < 40 else { return false }
            messages.append(Message(id: nextID(), letter: .command(id: nextID(), command)))
        }
        return true
    }

    private func checkWorkers() throws(Violation) {
        for (index, attempt) in attempts.enumerated() where attempt.token != nil && attempt.exit == nil {
            let job = attempt.hint.job
            guard run.jobs[job].definition.onLeaseLoss == .kill else { continue }
            if attempts[..<index].contains(where: { $0.token != nil && $0.exit == nil && $0.hint.job == job }) {
                throw Violation(rule: "I5", text: "job \(job), which must not outlive its lease, runs twice")
            }
        }
    }
}

// MARK: - Broker and workers

extension SimulatedWorld {
    private mutating func send(_ pick: Int, _ fate: SimulationStep.Fate) -> Bool {
        guard !relay.isEmpty else { return false }
        let place = pick % relay.count
        let id = relay[place]
        // Confirmed meanwhile through another copy.
        guard let row = outbox.first(where: { $0.id == id }) else {
            relay.remove(at: place)
            return true
        }
        if fate == .lost { return true }
        if row.isHint {
            var hint = row.hint
            hint.due = now + (row.pause ?? 0)
            hints.append(hint)
        }
        guard fate == .confirmed else { return true }
        relay.remove(at: place)
        confirms.append(id)
        return true
    }

    private mutating func deliver(_ pick: Int, to worker: Int) -> Bool {
        guard !isCutOff[worker] else { return false }
        let due = hints.indices.filter { hints[$0].due <= now }
        guard !due.isEmpty else { return false }
        let hint = hints.remove(at: due[pick % due.count])
        let attempt = Attempt(id: nextID(), worker: worker, hint: hint, askedAt: now)
        attempts.append(attempt)
        messages.append(Message(id: nextID(), letter: .claim(attempt)))
        return true
    }

    private mutating func askAgain(_ pick: Int) -> Bool {
        let asking = attempts.indices.filter { attempts[$0].token == nil && !isCutOff[attempts[$0].worker] }
        guard !asking.isEmpty, messages.count < 40 else { return false }
        let attempt = attempts[asking[pick % asking.count]]
        let question = attempt.asksWith.map { Letter.result($0, next: Question(id: attempt.id, worker: attempt.worker)) }
        messages.append(Message(id: nextID(), letter: question ?? .claim(attempt)))
        return true
    }

    private mutating func renew(_ pick: Int) -> Bool {
        let running = attempts.indices.filter { attempts[$0].token != nil && attempts[$0].exit == nil && !isCutOff[attempts[$0].worker] }
        guard !running.isEmpty, messages.count < 40 else { return false }
        messages.append(Message(id: nextID(), letter: .renewal(attempts[running[pick % running.count]], askedAt: now)))
        return true
    }

    private mutating func end(_ pick: Int, _ ending: SimulationStep.Ending) -> Bool {
        let running = attempts.indices.filter { attempts[$0].token != nil && attempts[$0].exit == nil }
        guard !running.isEmpty else { return false }
        endAttempt(running[pick % running.count], ending)
        return true
    }

    private mutating func endAttempt(_ index: Int, _ ending: SimulationStep.Ending) {
        let at = Date(timeIntervalSince1970: now)
        let token = attempts[index].token ?? 0
        attempts[index].exit = JobExit(
            outcome: ending.outcome, kind: ending.kind, result: .integer(Int64(token)), startedAt: at, finishedAt: at,
            isRetriable: ending.isRetriable)
        guard !isCutOff[attempts[index].worker] else { return }
        report(index, copies: ending.isSentTwice ? 2 : 1, bringsHintBack: ending.bringsHintBack, asks: ending.asks)
    }

    private mutating func report(_ index: Int, copies: Int = 1, bringsHintBack: Bool = false, asks: Bool = false) {
        let attempt = attempts.remove(at: index)
        guard let token = attempt.token, let exit = attempt.exit else { return }
        let told = Told(job: attempt.hint.job, attempt: attempt.hint.attempt, token: token, exit: exit)
        let question = asks ? Question(id: nextID(), worker: attempt.worker) : nil
        for _ in 0..<copies { messages.append(Message(id: nextID(), letter: .result(told, next: question))) }
        if let question {
            attempts.append(
                Attempt(id: question.id, worker: attempt.worker, hint: attempt.hint, askedAt: now, holdsHint: false, asksWith: told))
        }
        if bringsHintBack, attempt.holdsHint { hints.append(attempt.hint) }
    }

    private mutating func hear(_ envelope: Envelope) {
        switch envelope {
        case .stop(let job, let token):
            while let index = attempts.firstIndex(where: {
                $0.hint.job == job && $0.token == token && $0.exit == nil && !isCutOff[$0.worker]
            }) {
                endAttempt(index, SimulationStep.Ending(outcome: .cancelled, kind: .cancelled))
            }
        case .reply(let id, let reply):
            guard let index = attempts.firstIndex(where: { $0.id == id }), !isCutOff[attempts[index].worker] else { return }
            switch reply {
            case .go(let token):
                guard attempts[index].token == nil else { return }
                attempts[index].token = token
                attempts[index].leaseUntil = attempts[index].askedAt + Self.leaseTime
                if mustEnd(attempts[index]) { attempts.remove(at: index) }
            case .next(let job, let attempt, let token):
                guard attempts[index].asksWith != nil else { return }
                attempts[index].asksWith = nil
                attempts[index].hint = Hint(job: job, attempt: attempt, dispatch: 0)
                attempts[index].token = token
                attempts[index].leaseUntil = attempts[index].askedAt + Self.leaseTime
                if mustEnd(attempts[index]) { attempts.remove(at: index) }
            case .no:
                if attempts[index].token == nil { attempts.remove(at: index) }
            case .renewed(let askedAt): attempts[index].leaseUntil = max(attempts[index].leaseUntil, askedAt + Self.leaseTime)
            case .lost:
                if run.jobs[attempts[index].hint.job].definition.onLeaseLoss == .kill { attempts.remove(at: index) }
            case .cancel:
                if attempts[index].exit == nil { endAttempt(index, SimulationStep.Ending(outcome: .cancelled, kind: .cancelled)) }
            }
        }
    }

    private func mustEnd(_ attempt: Attempt) -> Bool {
        attempt.exit == nil && attempt.leaseUntil <= now && run.jobs[attempt.hint.job].definition.onLeaseLoss == .kill
    }

    /// The broker delivers again what a connection left behind.
    private mutating func giveHintsBack(of worker: Int) {
        for index in attempts.indices where attempts[index].worker == worker && attempts[index].holdsHint {
            attempts[index].holdsHint = false
            hints.append(attempts[index].hint)
        }
    }

    private mutating func reconnect(_ worker: Int) {
        isCutOff[worker] = false
        while let index = attempts.firstIndex(where: { $0.worker == worker && $0.exit != nil }) { report(index) }
    }
}

extension SimulatedWorld.Message {
    fileprivate var isTransient: Bool {
        switch letter {
        case .claim, .renewal: true
        case .result, .command: false
        }
    }
}

// MARK: - The end

extension SimulatedWorld {
    /// Nobody interferes any more: the run has to end by itself, and nothing may be left over.
    mutating func settleDown() throws(Violation) {
        for worker in isCutOff.indices { _ = try perform(.reconnect(worker)) }
        for number in SimulatedPlan.pausable.indices { _ = try perform(.command(.resume(number))) }
        for round in 0..<600 {
            var progress = false
            while try perform(.send(0, .confirmed)) { progress = true }
            while try perform(.confirm(0, .whole)) { progress = true }
            while try perform(.handle(0, .whole)) { progress = true }
            while try perform(.hear(0)) { progress = true }
            while try perform(.deliver(0, worker: round % 3)) { progress = true }
            while try perform(.end(0, SimulationStep.Ending(outcome: .succeeded))) { progress = true }
            while try perform(.askAgain(0)), messages.count < 10 { progress = true }
            if isQuiet, !progress { return }
            if !progress {
                _ = try perform(.wait(round.isMultiple(of: 8) ? 4000 : 70))
                _ = try perform(.sweep(isEager: false, .whole))
            }
        }
        throw Violation(
            rule: "liveness",
            text: "the run does not end: \(run.jobs.map(\.state.rawValue)), \(hints.count) hints, \(messages.count) messages, "
                + "\(outbox.count) rows, \(attempts.count) attempts")
    }
}

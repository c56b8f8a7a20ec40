package import Jobs

/// Turns an event and its callbacks' verdicts into a run plan. Pure, apart from the evaluation that is handed in.
package enum RunPlanner {
    /// The built-in first job of every run.
    package static let exportName = "export"

    /// Asks the callbacks of one stage, in order, in one go. Gets the questions, the event's headers and what accepted callbacks
    /// of earlier stages handed over; within the stage the evaluator adds what each accepted callback hands over before it asks
    /// the next. Throws only when no verdict can be had, for example because the host cannot be started.
    package typealias Evaluate = (
        _ questions: [CallbackQuestion], _ headers: JSONValue, _ addedParams: [String: JSONValue]
    ) async throws -> [CallbackAnswer]

    /// - Throws: what `evaluate` throws, so that the event is planned again later.
    package static func plan(event: PlanInput, catalog: ServiceCatalog, evaluate: Evaluate) async throws -> RunPlan {
        var planning = Planning(event: event, catalog: catalog)
        for stage in [Stage.pre, .services, .post] {
            let candidates = planning.open(stage)
            guard !candidates.isEmpty else { continue }
            let asked = candidates.filter { !$0.callback.isEmpty }
            let questions = asked.map {
                CallbackQuestion(jobName: $0.name, entry: $0.callback, params: $0.definition.params, stage: stage)
            }
            let answers = questions.isEmpty ? [] : try await evaluate(questions, event.headers, planning.addedParams)
            planning.close(stage, candidates, Dictionary(zip(asked.map(\.name), answers)) { first, _ in first })
        }
        return planning.plan()
    }
}

/// The state of planning one event, stage by stage.
struct Planning {
    private let level: ResourceLevel
    private let event: EventTags
    private let catalog: ServiceCatalog
    /// What the conditions of accepted entries came to, by job name.
    private var conditions: [String: String] = [:]
    private var decisions: [Decision] = []
    private var failure: Reason?
    /// The first callback that failed without failing the run: nobody knows whether its job was needed.
    private var concern: Reason?
    private var accepted: [AcceptedEntry] = []
    /// Why a job that others may depend on does not run, by name.
    private var absences: [String: Absence] = [:]

    /// What accepted callbacks handed over, without those whose job is skipped.
    private(set) var addedParams: [String: JSONValue] = [:]

    init(event: PlanInput, catalog: ServiceCatalog) {
        self.level = event.level
        self.event = EventTags(level: event.level, headers: event.fullHeaders, instances: event.instances)
        self.catalog = catalog
        self.failure = catalog.failure
        for entry in catalog.brokenEntries {
            if let name = entry.name { absences[name] = .broken("has an error in its settings") }
        }
        for entry in catalog.entries where entry.isDisabled { absences[entry.name] = .notWanted("is disabled") }
        // A disabled or broken entry may bear the name of one that runs.
        for entry in catalog.entries where !entry.isDisabled { absences[entry.name] = nil }
    }

    /// - Returns: the entries whose callbacks have to be asked; the others of the stage get their decisions here.
    mutating func open(_ stage: Stage) -> [CatalogEntry] {
        var candidates: [CatalogEntry] = []
        for entry in catalog.entries where entry.stage == stage {
            if entry.isDisabled {
                decide(entry, .declined, Reason("disabled", "It is disabled in its settings."))
            } else if let failure {
                decide(entry, .skipped, Reason("planning-failed", "Not asked, because planning failed.", subject: failure.subject))
            } else if !entry.events.contains(level) {
                let levels = ResourceLevel.allCases.filter(entry.events.contains).map(\.rawValue).joined(separator: " and ")
                decide(
                    entry,
                    .declined,
                    Reason("event-level", "It handles \(levels) events only, and this is about a \(level.rawValue)."),
                )
                absences[entry.name] = .notWanted("does not handle \(level.rawValue) events")
            } else if stage == .post, !hasRunnableService {
                decide(entry, .skipped, Reason("nothing-to-do", "Not asked, because no service accepted this \(level.rawValue)."))
            } else if holds(entry) {
                candidates.append(entry)
            }
        }
        for entry in catalog.brokenEntries where entry.stage == stage {
            decisions.append(
                Decision(
                    job: entry.label,
                    service: entry.service,
                    stage: stage,
                    verdict: .failed,
                    reason: Reason(
                        "settings-error",
                        "Its settings have an error, which the page of its service shows.",
                        subject: entry.service,
                    ),
                )
            )
        }
        return candidates
    }

    /// Whether the condition of `entry`, if it has one, lets it be asked; else it gets its decision here.
    private mutating func holds(_ entry: CatalogEntry) -> Bool {
        guard let condition = entry.when else { return true }
        let verdict = condition.verdict(on: event)
        switch verdict.truth {
        case .holds:
            conditions[entry.name] = verdict.reason
            return true
        case .undecided where entry.stage == .pre:
            // Nothing says that the data needs no preparing.
            decide(entry, .failed, Reason("condition-undecided", "Its condition cannot be decided: \(verdict.reason)."))
            absences[entry.name] = .broken("has a condition that cannot be decided")
            failure = Reason(
                "pre-condition-undecided",
                "the condition of the pre-service \(entry.name) cannot be decided (\(verdict.reason)), and data that a pre-service has not "
                    + "prepared must not be processed. Ask for \"exists\" first in its \"when\".",
                subject: entry.name,
            )
        case .undecided:
            decide(
                entry, .declined,
                Reason("condition-undecided", "Its condition cannot be decided, and so does not hold: \(verdict.reason)."))
            absences[entry.name] = .notWanted("has a condition that cannot be decided")
        case .fails:
            decide(entry, .declined, Reason("condition", "Its condition does not hold: \(verdict.reason)."))
            absences[entry.name] = .notWanted("has a condition that does not hold")
        }
        return false
    }

    /// Takes the answers to the questions about `candidates`, by job name.
    mutating func close(_ stage: Stage, _ candidates: [CatalogEntry], _ answers: [String: CallbackAnswer]) {
        var positions: [String: Int] = [:]
        for entry in candidates {
            let missing = JobExit.Failure(type: "no-answer", message: "The callback host gave no verdict.")
            positions[entry.name] = decisions.count
            if entry.callback.isEmpty {
                let reason = conditions[entry.name].map { "Its condition holds: \($0)." }
                accept(entry, [:], Reason("accepted", reason ?? "It has no callback, so it accepts every \(level.rawValue)."))
            } else {
                record(answers[entry.name] ?? CallbackAnswer(.failed(missing)), of: entry)
            }
        }
        guard failure == nil else {
            dropAccepted()
            return
        }
        for position in JobOrder.ordered(accepted, in: stage) {
            guard let skipped = absenceReason(of: accepted[position].entry) else { continue }
            let entry = accepted[position].entry
            accepted[position].skipped = skipped
            absences[entry.name] = .broken("is skipped itself")
            addedParams[entry.name] = nil
            if let decision = positions[entry.name] {
                decisions[decision].verdict = .skipped
                decisions[decision].reason = skipped
            }
            if stage == .pre, !entry.definition.isFinalizer, failure == nil { failure = Self.unprepared(by: entry, skipped) }
        }
        if failure != nil { dropAccepted() }
    }

    /// Its callback said that this data needs the pre-service: without it the stages behind would see what it was to take away.
    private static func unprepared(by entry: CatalogEntry, _ skipped: Reason) -> Reason {
        let missing = skipped.subject ?? "another job"
        return Reason(
            "pre-service-skipped",
            "the pre-service \(entry.name) accepted but cannot run without \(missing), which it depends on, and nothing may run on data "
                + "that a pre-service has not prepared. Let \(missing) run for the same events, or give \(entry.name) \"onFailure\": \"run\".",
            subject: entry.name,
        )
    }

    /// A run that failed closed starts nothing.
    private mutating func dropAccepted() {
        accepted = []
        addedParams = [:]
    }

    private mutating func record(_ answer: CallbackAnswer, of entry: CatalogEntry) {
        switch answer.verdict {
        case .accepted(let added):
            let added = added.object.map(JSONValue.object) ?? [:]
            let condition = conditions[entry.name].map { " Its condition holds: \($0)." } ?? ""
            accept(entry, added, Reason("accepted", "Its callback accepted this \(level.rawValue).\(condition)"), answer)
        case .declined:
            decide(entry, .declined, Reason("declined", "Its callback declined this \(level.rawValue)."), answer)
            absences[entry.name] = .notWanted("was declined by its callback")
        case .failed(let cause):
            // The message stays out of the reason: it may quote a header.
            decide(entry, .failed, Reason("callback-failed", "Its callback failed: \(cause.type)."), answer, cause)
            absences[entry.name] = .broken("has a callback that failed")
            if entry.stage != .pre {
                concern =
                    concern
                    ?? Reason(
                        "callback-failed",
                        "the callback of \(entry.name) failed (\(cause.type)), so the run is without a job that it may have needed.",
                        subject: entry.name,
                    )
            } else if failure == nil {
                failure = Reason(
                    "pre-callback-failed",
                    "the callback of the pre-service \(entry.name) failed (\(cause.type)), and data that a pre-service has not prepared "
                        + "must not be processed.",
                    subject: entry.name,
                )
            }
        }
    }

    private mutating func accept(_ entry: CatalogEntry, _ added: JSONValue, _ reason: Reason, _ answer: CallbackAnswer? = nil) {
        decide(entry, .accepted, reason, answer)
        accepted.append(AcceptedEntry(entry: entry, added: added))
        addedParams[entry.name] = added
    }

    private mutating func decide(
        _ entry: CatalogEntry,
        _ verdict: Decision.Verdict,
        _ reason: Reason,
        _ answer: CallbackAnswer? = nil,
        _ cause: JobExit.Failure? = nil,
    ) {
        let parts = [answer?.output, cause.map { $0.traceback ?? "\($0.type): \($0.message)" }].compactMap(\.self).filter { !$0.isEmpty }
        decisions.append(
            Decision(
                job: entry.name,
                service: entry.service,
                stage: entry.stage,
                verdict: verdict,
                reason: reason,
                duration: answer?.duration,
                output: parts.isEmpty ? nil : parts.joined(separator: "\n"),
            )
        )
    }

    private var hasRunnableService: Bool { accepted.contains { $0.entry.stage == .services && $0.skipped == nil } }

    consuming func plan() -> RunPlan {
        if let failure { return RunPlan(decisions: decisions, failure: failure) }
        guard hasRunnableService else {
            for position in decisions.indices where decisions[position].verdict == .accepted {
                decisions[position].reason = Reason(
                    "nothing-to-do",
                    "It accepted this \(level.rawValue), but there is nothing to do: no service did.",
                )
            }
            return RunPlan(decisions: decisions, concern: concern)
        }
        return RunPlan(
            jobs: JobOrder.jobs(accepted, defaults: catalog.defaults),
            decisions: decisions,
            addedParams: addedParams,
            concern: concern,
        )
    }
}

/// An entry whose callback accepted the event.
struct AcceptedEntry {
    let entry: CatalogEntry
    let added: JSONValue
    var skipped: Reason?
}

// MARK: - Dependencies that are not there

extension Planning {
    /// Why a job does not run.
    private enum Absence {
        /// Everything is in order: there is nothing for it to do.
        case notWanted(String)
        /// It should perhaps have run.
        case broken(String)

        var text: String {
            switch self {
            case .notWanted(let text), .broken(let text): text
            }
        }
    }

    /// Why an accepted entry cannot run, if so.
    private func absenceReason(of entry: CatalogEntry) -> Reason? {
        for name in entry.dependsOn {
            guard let absence = absences[name], entry.onFailure == .skip else { continue }
            // Cleaning up is needed after a job that had nothing to do, too.
            if entry.definition.isFinalizer, case .notWanted = absence { continue }
            return Reason(Reason.notAcceptedCode, "Skipped, because \(name), which it depends on, \(absence.text).", subject: name)
        }
        guard entry.definition.isFinalizer else { return nil }
        return lostStorage.map { name, text in
            Reason(Reason.notAcceptedCode, "Held back, because \(name), which stores results or may do so, \(text).", subject: name)
        }
    }

    /// A storing job that is missing although it may have been needed: a finalizer would delete what it did not store.
    private var lostStorage: (name: String, text: String)? {
        for entry in catalog.entries where entry.definition.isStoring {
            if case .broken(let text)? = absences[entry.name] { return (entry.name, text) }
        }
        // The file, when the entry's name is what nobody can read.
        return catalog.brokenEntries.first(where: \.isStoring).map { ($0.name ?? $0.file, "has an error in its settings") }
    }
}

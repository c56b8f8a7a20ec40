import Foundation
import JobStore
import Jobs

/// Asks runs why their jobs are where they are, with what the ledger knows of the world around them.
struct Explanations: Sendable {
    /// What jobs of a run answer, by position.
    struct Answers: Sendable {
        var byPosition: [Int: Explanation] = [:]
        /// Every fact up to this one is in what was asked about the world around the run.
        var fact = Int64.max
    }

    let ledger: LedgerReader
    let overview: Recent<Overview>

    /// - Parameter run: the job's, as ``JobStore/LedgerReader/run(ofJob:)`` has it.
    /// - Returns: the answer, and the newest fact that is in it.
    func explain(_ detail: LedgerJobDetail, of run: Run?) async throws -> (Explanation, fact: Int64) {
        let job = detail.job
        let world = try await overview.reading()
        guard let run else { return (Explanation(.unexpected, job.reason.text), world.version) }
        // Only what planning left out asks for the verdicts of planning.
        let decisions = job.state == .skipped ? try await ledger.run(job.runID)?.decisions ?? [] : []
        return (run.explain(job: job.position, surroundings: surroundings(of: job, decisions, world.value)), world.version)
    }

    /// By position, for jobs that have not succeeded.
    ///
    /// - Parameter run: the same, as ``JobStore/LedgerReader/run(of:)`` has it.
    func explain(_ detail: LedgerRunDetail, of run: Run?) async throws -> Answers {
        guard let run else { return Answers() }
        let world = try await overview.reading()
        var answers = Answers(fact: world.version)
        for job in detail.jobs where job.state != .succeeded {
            answers.byPosition[job.position] = run.explain(
                job: job.position, surroundings: surroundings(of: job, detail.decisions, world.value))
        }
        return answers
    }

    private func surroundings(of job: LedgerJob, _ decisions: [Decision], _ overview: Overview) -> JobSurroundings {
        let name = job.channel
        let channel = overview.channels.first { $0.name == name }
        let broker = overview.pipeline
        return JobSurroundings(
            now: Date(),
            pause: channel?.pause
                ?? overview.services.first { $0.name == job.service }?.pause,
            workersOfChannel: channel?.workers ?? 0,
            drainedWorkers: overview.drained(name, at: Date()),
            brokerBlocked: broker.brokerBlockedSince.map { _ in broker.brokerBlockedReason ?? "it does not say why" },
            brokerBlockedSince: broker.brokerBlockedSince,
            decisions: decisions
        )
    }
}

extension LedgerReader {
    /// - Returns: nil when there is no such run.
    func run(ofJob id: String) async throws -> Run? {
        guard let job = JobID(rawValue: id) else { return nil }
        return try await run(job.run)
    }

    /// - Returns: nil when there is no such run.
    func run(of detail: LedgerRunDetail) async throws -> Run? {
        guard let id = RunID(rawValue: detail.run.id) else { return nil }
        return try await run(id)
    }
}

extension Explanation {
    /// The sentence with links to what it names, and with times that become the reader's own.
    var html: String {
        var pieces = [Piece(text: sentence)]
        for subject in subjects {
            guard let url = subject.url else { continue }
            for phrase in subject.phrases {
                guard let place = pieces.firstIndex(where: { $0.markup == nil && $0.text.wholeRange(of: phrase) != nil }),
                    let range = pieces[place].text.wholeRange(of: phrase)
                else { continue }
                let text = pieces[place].text
                let link = "<a href=\"\(HTMLText.escape(url))\">\(HTMLText.escape(subject.name))</a>"
                let before = String(text[..<range.lowerBound]) + String(phrase.dropLast(subject.name.count))
                let after = String(text[range.upperBound...])
                pieces.replaceSubrange(place...place, with: [Piece(text: before), Piece(text: "", markup: link), Piece(text: after)])
                break
            }
        }
        return pieces.map { $0.markup ?? Self.withTimes($0.text) }.joined()
    }

    private struct Piece {
        var text: String
        var markup: String?
    }

    /// `2026-11-22 16:20:00 UTC` as an element that the script turns into the reader's time zone.
    private static func withTimes(_ text: String) -> String {
        var html = ""
        var rest = text[...]
        // No expression for it: that would cost fifty times what all the rest of a sentence does.
        while let zone = rest.firstRange(of: " UTC") {
            let time = rest[..<zone.lowerBound].suffix(19)
            if time.count == 19, let date = try? Date("\(time.prefix(10))T\(time.suffix(8))Z", strategy: .iso8601) {
                html += HTMLText.escape(String(rest[..<time.startIndex])) + Markup.time(date)
            } else {
                html += HTMLText.escape(String(rest[..<zone.upperBound]))
            }
            rest = rest[zone.upperBound...]
        }
        return html + HTMLText.escape(String(rest))
    }
}

extension String {
    /// Where `phrase` stands and is not part of a longer word: a job may be called `a`.
    fileprivate func wholeRange(of phrase: String) -> Range<String.Index>? {
        func isPartOfWord(_ character: Character?) -> Bool {
            character.map { $0.isLetter || $0.isNumber || $0 == "_" || $0 == "-" } ?? false
        }
        return ranges(of: phrase).first { range in
            !isPartOfWord(self[..<range.lowerBound].last) && !isPartOfWord(self[range.upperBound...].first)
        }
    }
}

extension Explanation.Subject {
    /// Where its page is.
    var url: String? {
        let fragment = id.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? ""
        return switch kind {
        case .job: JobID(rawValue: id) == nil ? nil : "/jobs/\(id)"
        case .worker: "/workers#worker-\(fragment)"
        case .channel: "/queues#channel-\(fragment)"
        case .service: "/services#service-\(fragment)"
        case .person: nil
        }
    }

    /// How sentences name it. A channel and a priority may have one name, so that the word before it counts.
    fileprivate var phrases: [String] {
        switch kind {
        case .job: [name]
        case .worker: ["Worker \(name)", "worker \(name)"]
        case .channel: ["Channel \(name)", "channel \(name)"]
        case .service: ["Service \(name)", "service \(name)"]
        case .person: []
        }
    }
}

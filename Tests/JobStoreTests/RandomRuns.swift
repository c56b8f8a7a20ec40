import Foundation
import JobStore
import Jobs
import Pipeline
import TestSupport

/// Runs in which every field has any value, likely or not: what a ledger has to give back as it was.
struct RandomRuns {
    private var generator: SeededGenerator

    init(seed: UInt64) { generator = SeededGenerator(seed: seed) }

    mutating func stored(_ id: RunID, event: EventMessage) -> StoredRun {
        let jobs = (0..<Int.random(in: 0...60, using: &generator)).map { index in
            job(of: JobDefinition.random(&generator), dependencies: dependencies(of: index))
        }
        let run = Run(
            id: id, state: any(RunState.self), reason: maybe { $0.reason() }, finishedAt: maybe { $0.time() },
            concern: maybe { $0.reason() },
            hasBegunCleaning: .random(using: &generator), jobs: jobs)
        let source = JobSource(
            server: event.server, level: event.level, resourceID: event.resourceID, series: event.series, dcmpath: "dicom/\(id)")
        var headers = event.headers.object ?? [:]
        headers["dcmpath"] = .string(source.dcmpath)
        return StoredRun(
            run: run, context: RunContext(source: source, headers: .object(headers), addedParams: ["job": value(2), "other": value(2)]))
    }

    /// The same jobs somewhere else on their way.
    mutating func moved(_ run: Run) -> Run {
        let jobs = run.jobs.map { job in
            guard Bool.random(using: &generator) else { return job }
            return self.job(
                of: job.definition,
                dependencies: job.dependencies.map { edge in
                    var edge = edge
                    edge.satisfiedBy = maybe { Int.random(in: 1...9, using: &$0.generator) }
                    return edge
                })
        }
        return Run(
            id: run.id, state: any(RunState.self), reason: maybe { $0.reason() }, finishedAt: maybe { $0.time() }, concern: run.concern,
            hasBegunCleaning: .random(using: &generator), jobs: jobs)
    }

    private mutating func job(of definition: JobDefinition, dependencies: [Dependency]) -> Job {
        Job(
            definition: definition,
            dependencies: dependencies,
            priority: any(Priority.self),
            state: any(JobState.self),
            reason: reason(),
            attempt: .random(in: 1...1000, using: &generator),
            dispatch: .random(in: 0...1000, using: &generator),
            token: .random(in: 0...1000, using: &generator),
            crashes: .random(in: 0...9, using: &generator),
            failures: .random(in: 0...9, using: &generator),
            cancelRequested: .random(using: &generator),
            worker: maybe { .name(&$0.generator) },
            claim: maybe { .name(&$0.generator) },
            notBefore: maybe { $0.time() },
            queuedAt: maybe { $0.time() },
            dispatchedAt: maybe { $0.time() },
            startedAt: maybe { $0.time() },
            finishedAt: maybe { $0.time() },
            failure: maybe { random in JobExit.Failure(type: random.text(), message: random.text(), traceback: random.maybe { $0.text() })
            },
            result: maybe { $0.value(2) }
        )
    }

    private mutating func dependencies(of index: Int) -> [Dependency] {
        (0..<index).shuffled(using: &generator).prefix(.random(in: 0...4, using: &generator)).sorted().map { parent in
            Dependency(
                parent: parent, condition: Bool.random(using: &generator) ? .succeeded : .finished,
                origin: Bool.random(using: &generator) ? .declared : .stage,
                satisfiedBy: maybe { Int.random(in: 1...9, using: &$0.generator) })
        }
    }

    private mutating func maybe<Value>(_ value: (inout RandomRuns) -> Value) -> Value? {
        Bool.random(using: &generator) ? value(&self) : nil
    }

    private mutating func any<Value: CaseIterable>(_ type: Value.Type) -> Value where Value.AllCases == [Value] {
        type.allCases.randomElement(using: &generator)!
    }

    private mutating func reason() -> Reason { Reason(text(), text(), subject: maybe { $0.text() }) }

    private mutating func text() -> String { String.random(&generator) }

    private mutating func value(_ depth: Int) -> JSONValue { JSONValue.random(depth, &generator) }

    /// Whole milliseconds in binary: a time in seconds since 1970 keeps them as they are.
    private mutating func time() -> Date {
        Date(timeIntervalSince1970: 1_700_000_000 + Double(Int.random(in: 0...(1 << 34), using: &generator)) / 1024)
    }
}

extension String {
    /// As names may be: without NUL, which SQLite takes for the end of a text.
    fileprivate static func name(_ generator: inout SeededGenerator) -> String {
        random(&generator).replacing("\u{0}", with: "")
    }

    fileprivate static func random(_ generator: inout SeededGenerator) -> String {
        let texts = [
            "", "a", "Ω ü 日本 🩻", "'; DROP TABLE job; --", "a\u{0}b", "\"\\\n\t", "<script>", "null", "0",
            String(repeating: "x", count: 2000),
        ]
        return texts.randomElement(using: &generator)! + String(UInt64.random(in: 0...99, using: &generator))
    }
}

extension JSONValue {
    fileprivate static func random(_ depth: Int, _ generator: inout SeededGenerator) -> JSONValue {
        switch Int.random(in: 0...(depth == 0 ? 4 : 6), using: &generator) {
        case 0: .null
        case 1: .bool(.random(using: &generator))
        case 2: .integer(.random(in: .min ... .max, using: &generator))
        case 3: .number(Double.random(in: -1...1, using: &generator) + 0.123)
        case 4: .string(.random(&generator))
        case 5: .array((0..<3).map { _ in random(depth - 1, &generator) })
        default: .object(["k": random(depth - 1, &generator), "": random(depth - 1, &generator)])
        }
    }
}

extension JobDefinition {
    fileprivate static func random(_ generator: inout SeededGenerator) -> JobDefinition {
        JobDefinition(
            name: .name(&generator),
            service: .name(&generator),
            stage: Stage.allCases.randomElement(using: &generator)!,
            kind: Bool.random(using: &generator) ? .python : .export,
            entry: .random(&generator),
            params: .random(2, &generator),
            channel: ["default", "gpu", "cpu-2"].randomElement(using: &generator)!,
            priority: Priority.allCases.randomElement(using: &generator)!,
            timeout: Bool.random(using: &generator) ? .never : .standard,
            retry: RetryPolicy(
                max: .random(in: 0...9, using: &generator), delay: .random(in: 1...9, using: &generator),
                backoff: RetryPolicy.Backoff.allCases.randomElement(using: &generator)!),
            isFinalizer: .random(using: &generator),
            isStoring: .random(using: &generator),
            onLeaseLoss: OnLeaseLoss.allCases.randomElement(using: &generator)!
        )
    }
}

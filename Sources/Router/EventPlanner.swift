import AMQP
import Foundation
import JobStore
import Jobs
import Logging
import Pipeline
import PythonHost
import Registry

/// Turns an event into a plan: reads today's services and asks their callbacks. Everything it knows of an event dies with the event.
struct EventPlanner: Sendable {
    let catalog: ServiceCatalogSource
    let callbacks: CallbackHost
    let logger: Logger

    /// - Throws: when no callback can be asked at all, for example because there is no Python; the event is planned again later.
    func plan(_ event: EventMessage) async throws -> PlannedRun {
        for _ in 0..<5 {
            let services = try await settledCatalog()
            let planned = try await plan(event, services)
            // While callbacks were asked, a service was replaced: its new code may have got its old settings.
            guard catalog.current().says(otherThan: services) else { return planned }
            logger.debug("services changed under the planning of an event, planning it again")
        }
        throw ServicesChange()
    }

    /// Runs that fail closed stay failed. So a registry that would make them fail gets the seconds that copying a file takes.
    private func settledCatalog() async throws -> ServiceCatalog {
        let deadline = ContinuousClock.now + .seconds(3)
        while true {
            let services = catalog.current()
            guard services.failsForNow(), ContinuousClock.now < deadline else { return services }
            try await Task.sleep(for: .milliseconds(100))
        }
    }

    private func plan(_ event: EventMessage, _ services: ServiceCatalog) async throws -> PlannedRun {
        let filtered = services.pipeline.filtered(event.headers, level: event.level)
        var planned = empty(event, filtered)
        let headers = planned.context.headers
        planned.plan = try await RunPlanner.plan(
            event: PlanInput(
                level: event.level, headers: headers, fullHeaders: event.headers,
                instances: Dictionary(event.series.map { ($0.id, $0.instances) }) { first, _ in first }),
            catalog: services, evaluate: evaluate)
        let size = JSONValue.array([headers, .object(planned.plan.addedParams)]).encoded().count
        if size > Self.orderLimit { planned.plan = RunPlan(decisions: planned.plan.decisions, failure: .tooLarge(size)) }
        planned.context.addedParams = planned.plan.addedParams
        if filtered != event.headers { planned.filteredHeaders = filtered }
        return planned
    }

    /// The run of an event that cannot be planned: no job, and the reason why.
    func failure(of event: EventMessage, _ reason: Reason) -> PlannedRun {
        var planned = empty(event, event.headers)
        planned.plan.failure = reason
        return planned
    }

    /// A run with an id and a folder of its own, and no job yet.
    private func empty(_ event: EventMessage, _ headers: JSONValue) -> PlannedRun {
        let id = RunID.make(at: Date())
        // Never shared with another run: jobs change files in place.
        let dcmpath = "dicom/\(id)"
        var members = headers.object ?? [:]
        members["dcmpath"] = .string(dcmpath)
        let source = JobSource(
            server: event.server, level: event.level, resourceID: event.resourceID, series: event.series, dcmpath: dcmpath)
        return PlannedRun(
            id: id, plan: RunPlan(), context: RunContext(source: source, headers: .object(members), addedParams: [:]))
    }

    /// Bytes of headers and added parameters that fit into the message that starts a job, with room for the rest of it.
    private static let orderLimit = 12 << 20

    private func evaluate(
        _ questions: [CallbackQuestion], _ headers: JSONValue, _ addedParams: [String: JSONValue]
    ) async throws -> [CallbackAnswer] {
        let calls = questions.map { CallbackCall(jobName: $0.jobName, entry: $0.entry, params: $0.params) }
        return try await callbacks.evaluate(calls, headers: headers, addedParams: addedParams).map { verdict in
            let answer: CallbackAnswer.Verdict =
                switch verdict.outcome {
                case .accepted(let added): .accepted(added: .object(added))
                case .declined: .declined
                case .failed(let failure): .failed(failure)
                }
            return CallbackAnswer(answer, duration: verdict.duration, output: verdict.output)
        }
    }
}

private struct ServicesChange: Error, CustomStringConvertible {
    var description: String { "services were changed again and again while their callbacks were asked" }
}

extension Reason {
    fileprivate static func tooLarge(_ size: Int) -> Reason {
        Reason(
            "too-large",
            "headers and added parameters have \(size) bytes, more than a message to a worker holds: hand files over by path, or limit headerFields."
        )
    }
}

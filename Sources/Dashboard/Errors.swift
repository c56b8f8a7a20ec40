import HTTPTypes
import Hummingbird
import JobStore
import Logging

/// Turns what handlers throw into answers: problem details for programs, a page for people.
struct Errors: RouterMiddleware {
    typealias Context = DashboardContext
    let pages: PageRenderer
    /// Which methods an address of the API takes; none where there is nothing.
    let methods: @Sendable (String) -> [HTTPRequest.Method]

    func handle(
        _ request: Request, context: DashboardContext, next: @concurrent (Request, DashboardContext) async throws -> Response
    ) async throws -> Response {
        do {
            return try await next(request, context)
        } catch {
            if error is MonitorStoreError { context.logger.error("The monitor's store fails", metadata: ["error": "\(error)"]) }
            var problem: Problem
            if let known = Problem(error, path: request.uri.path) {
                problem = known
            } else {
                context.logger.error("A request failed", metadata: ["path": "\(request.uri.path)", "error": "\(error)"])
                problem = Problem(
                    status: .internalServerError, title: "The monitor made a mistake",
                    detail: "The monitor's log says more under request \(context.id).")
            }
            let path = request.uri.path
            if error is HTTPError, problem.status == .notFound, case let allowed = methods(path), !allowed.isEmpty {
                problem = .methodNotAllowed(request.method, allowed: allowed)
            }
            let isForPrograms = request.wantsJSON || request.uri.path == "/metrics" || request.uri.path.hasPrefix("/artifacts/")
            return isForPrograms ? problem.json(instance: request.uri.path) : pages.problem(problem, context)
        }
    }
}

import Hummingbird
import Logging

/// Turns what handlers throw into answers: problem details for programs, a page for people.
struct Errors: RouterMiddleware {
    typealias Context = DashboardContext
    let pages: PageRenderer

    func handle(
        _ request: Request, context: DashboardContext, next: @concurrent (Request, DashboardContext) async throws -> Response
    ) async throws -> Response {
        do {
            return try await next(request, context)
        } catch {
            let problem: Problem
            if let known = Problem(error, path: request.uri.path) {
                problem = known
            } else {
                context.logger.error("A request failed", metadata: ["path": "\(request.uri.path)", "error": "\(error)"])
                problem = Problem(
                    status: .internalServerError, title: "The monitor made a mistake",
                    detail: "The monitor's log says more under request \(context.id).")
            }
            let isForPrograms = request.wantsJSON || request.uri.path == "/metrics" || request.uri.path.hasPrefix("/artifacts/")
            return isForPrograms ? problem.json(instance: request.uri.path) : pages.problem(problem, context)
        }
    }
}

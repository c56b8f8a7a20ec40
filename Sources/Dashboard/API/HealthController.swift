import Foundation
import Hummingbird
import JobStore
import Jobs

/// For orchestrators and Prometheus.
struct HealthController: Sendable {
    let ledger: LedgerReader
    let sender: any CommandSender
    let feed: FactFeed
    let overview: Recent<Overview>
    let durations: Durations
    let vitals: RouterVitals
    let store: MonitorStore

    func addRoutes(to router: Router<DashboardContext>) {
        router.get("/healthz") { _, _ in Response.json(["status": "ok"]) }
        router.get("/readyz", use: ready)
        router.get("/metrics", use: metrics)
    }

    @Sendable private func ready(_ request: Request, _ context: DashboardContext) async throws -> Response {
        var problems: [String] = []
        do {
            try await ledger.checkReadable()
        } catch {
            problems.append((error as? LedgerReaderError)?.message ?? "The ledger cannot be read.")
        }
        if await !sender.isConnected { problems.append("The broker is not connected.") }
        return .json(
            ["status": problems.isEmpty ? "ready" : "not ready", "problems": .array(problems.map(JSONValue.string))],
            status: problems.isEmpty ? .ok : .serviceUnavailable)
    }

    @Sendable private func metrics(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let text = MetricsText(
            try? await overview.get(), durations: durations.current, vitals: vitals.current(at: Date()),
            isBrokerConnected: await sender.isConnected, streams: feed.watchers,
            webhooks: (try? await store.webhooks()) ?? [], backlogs: (try? await store.webhookBacklogs()) ?? [:], at: Date())
        return .text(text.text, type: "text/plain; version=0.0.4; charset=utf-8")
    }
}

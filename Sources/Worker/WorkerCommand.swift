import Bootstrap

@main
enum WorkerCommand {
    static func main() async {
        // The jobs' time to end, then the time to end those that did not and to tell the router.
        let grace = (try? WorkerConfiguration.grace(Settings.environment())) ?? WorkerConfiguration.standardGrace
        await ServiceMain.run("worker", shutdown: grace + .seconds(20)) { try await buildWorker($0) }
    }
}

import Bootstrap

@main
enum MonitorCommand {
    static func main() async {
        await ServiceMain.run("monitor", shutdown: .seconds(10)) { try buildMonitor($0) }
    }
}

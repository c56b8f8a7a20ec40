import Bootstrap

@main
enum RouterCommand {
    static func main() async {
        await ServiceMain.run("router") { try await buildRouter($0) }
    }
}

import Bootstrap

@main
struct IngestCommand {
    static func main() async {
        await ServiceMain.run("ingest", build: buildIngest)
    }
}

import Pipeline
import Testing

@testable import Orthanc
@testable import Worker

@Suite struct ExportProgressTests {
    @Test(
        "How far an export is, as people read it: of little, also what is less than a megabyte",
        arguments: [
            (
                ExportProgress(files: 1, totalFiles: 1, bytes: 526_000, totalBytes: 526_000, fetchedBytes: 526_000, seconds: 0.25),
                "1 of 1 image, 0.5 of 0.5 MB, 2.1 MB/s"
            ),
            (
                ExportProgress(files: 0, totalFiles: 36, bytes: 0, totalBytes: 19_000_000, fetchedBytes: 0, seconds: 0),
                "0 of 36 images, 0 of 19 MB, 0 MB/s"
            ),
            (
                ExportProgress(
                    files: 600, totalFiles: 1200, bytes: 314_600_000, totalBytes: 630_000_000, fetchedBytes: 314_600_000, seconds: 2),
                "600 of 1200 images, 315 of 630 MB, 157 MB/s"
            ),
        ])
    func words(progress: ExportProgress, words: String) {
        let told = RenewMessage.Progress(progress)
        #expect(told.text == words)
        #expect(told.fraction == Double(progress.bytes) / Double(progress.totalBytes))
    }
}

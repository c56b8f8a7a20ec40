import Foundation
import PythonHost
import Testing

@Suite(.timeLimit(.minutes(1)))
struct FileWorkTests {
    @Test("File work that waits holds up no other async code")
    func blocked() async {
        let gate = DispatchSemaphore(value: 0)
        // More than there are threads for async code; they wait until other async code has had its turn.
        let count = ProcessInfo.processInfo.activeProcessorCount * 2
        await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<count { group.addTask { await FileWork.run { gate.wait(timeout: .now() + 30) == .success } } }
            group.addTask {
                for _ in 0..<count {
                    gate.signal()
                    await Task.yield()
                }
                return true
            }
            for await isDone in group { #expect(isDone) }
        }
    }
}

"""Lesson 5 and its playground as a person uses them: in JupyterLab, in Chromium.

One browser and one run of the lesson serve all tests, which go on where the one before
has left the panel. Screenshots are kept in build/browser/, and 05_playground.png there
is the one that lesson 5 shows (lessons/assets/), made plainly a still.
"""

import io
import re
import shutil
import subprocess
from itertools import count

import pytest
from conftest import started_lab
from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageStat

from lesson_utils.support import lettering
from tools.lessons import ROOT

LESSON = "work/05_context.ipynb"
A_STILL = "An image of the panel. Run the cell above for the real one."
KEPT = ROOT / "build/browser"
MINUTES = 60_000
# Errors and words on stderr: in the outputs of the notebook, and those of callbacks,
# which no output shows.
OUTPUTS = """() => jupyterapp.shell.currentWidget.content.widgets.flatMap(
    cell => cell.model.type !== "code" ? [] : cell.model.outputs.toJSON().filter(
        o => o.output_type === "error" || o.name === "stderr"
    ).map(o => JSON.stringify(o)))"""
LISTEN = """() => { window.heard = [];
    jupyterapp.shell.currentWidget.sessionContext.iopubMessage.connect((_, message) => {
        if (message.header.msg_type === "error" || message.content.name === "stderr")
            heard.push(JSON.stringify(message.content)) }) }"""
DONE = """() => { const cells = jupyterapp.shell.currentWidget.content.widgets.filter(
    cell => cell.model.type === "code");
    return cells.every(cell => cell.model.executionState === "idle")
        && cells.at(-1).model.executionCount === cells.length }"""


class Panel:
    """The page with the panel, and what a person sees and does there."""

    def __init__(self, page):
        self.page, self.number = page, count(1)  # of screenshots
        self.at = page.locator(".jp-OutputArea-output:has(.widget-slider)")

    def control(self, role, name):
        return self.at.get_by_role(role, name=name, exact=True)

    def press(self, name):
        self.at.get_by_role("button", name=name).click()

    def images(self):
        images = self.at.get_by_role("img", name="samples of")
        return [image.get_attribute("src") for image in images.all()]

    def said(self, role="status"):
        return self.at.get_by_role(role).last

    def write(self, prompt):
        self.control("textbox", "prompt").fill(prompt)
        self.control("textbox", "prompt").press("Enter")

    def number_of(self, name):
        return self.at.locator(f".widget-readout[aria-label='{name}']").inner_text()

    def changed(self, action):
        """Do it, wait until the still is another one, and keep a screenshot."""
        before = self.images()[0]
        action()
        other = self.at.get_by_role("img", name="samples of").first
        self.expect(other).not_to_have_attribute("src", before, timeout=MINUTES)
        assert before not in self.images()

    def drawn(self, action):
        """The same, and wait until the drawing has come to its end."""
        self.changed(action)
        stop = self.at.get_by_role("button", name="Stop")
        self.expect(stop).to_be_disabled(timeout=MINUTES)

    def keep(self, name):
        drawn = "() => new Promise(f => requestIdleCallback(f, {timeout: 5000}))"
        for _ in range(5):  # cells that come into view change their height
            self.at.evaluate("e => e.scrollIntoView({block: 'center'})")
            self.page.evaluate(drawn)
        self.expect(self.said()).to_be_in_viewport()
        self.page.screenshot(path=KEPT / f"{next(self.number):02}_{name}.png")

    @staticmethod
    def expect(locator):
        from playwright.sync_api import expect

        return expect(locator)


def as_a_still(screenshot):
    """A screenshot of the panel, paler, in a frame and beneath words that say so."""
    panel = Image.open(io.BytesIO(screenshot)).convert("RGB")
    white = Image.new("RGB", panel.size, "white")
    panel = Image.blend(panel, white, 0.4)
    panel = panel.crop(ImageChops.difference(panel, white).getbbox())
    still = Image.new("RGB", (panel.width + 40, panel.height + 72), "white")
    still.paste(panel, (20, 52))
    draw = ImageDraw.Draw(still)
    draw.rectangle((0, 0, still.width, 36), "#595959")
    draw.rectangle((0, 0, still.width - 1, still.height - 1), None, "#595959", 3)
    font = ImageFont.truetype(lettering.system_fonts()[0].fname, 17)
    draw.text((20, 18), A_STILL, "white", font, "lm")
    return still.quantize(64, dither=Image.Dither.NONE)


def git(project, *words):
    name = ["-c", "user.name=reader", "-c", "user.email=reader@localhost"]
    command = ["git", *name, *words]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def note(problems, said):
    if said.type == "error":
        problems.append(f"{said.text} {said.location['url']}")


@pytest.fixture(scope="module")
def panel(browser, tmp_path_factory):
    """The panel of lesson 5, all of whose cells have run."""
    project, home = (tmp_path_factory.mktemp(name) for name in ("project", "home"))
    left = [".git", ".venv", "build", "data", ".*_cache", "work", "films", "saved"]
    shutil.copytree(
        ROOT, project, ignore=shutil.ignore_patterns(*left), dirs_exist_ok=True
    )
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "a copy"]):
        git(project, *words)
    shutil.rmtree(KEPT, ignore_errors=True)
    with started_lab(project, home, "--expose-app-in-browser") as (port, token):
        page = browser.new_page(viewport={"width": 1078, "height": 1000})
        page.problems, page.project = [], project
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda said: note(page.problems, said))
        news = page.get_by_role("button", name="No", exact=True)
        page.add_locator_handler(news, lambda button: button.click())
        page.goto(f"http://127.0.0.1:{port}/lab/tree/{LESSON}?token={token}")
        page.get_by_text("| Idle").wait_for(timeout=MINUTES)
        page.get_by_role("tab", name="File Browser").click()  # hides it
        page.get_by_role("menuitem", name="Edit", exact=True).click()
        page.get_by_text("Clear Outputs of All Cells", exact=True).click()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Restart Kernel and Run All Cells…").click()
        page.locator(".jp-Dialog .jp-mod-accept").click()
        page.wait_for_function(
            f"({OUTPUTS})().length || ({DONE})()", timeout=10 * MINUTES
        )
        assert page.evaluate(OUTPUTS) == []
        page.evaluate(LISTEN)
        panel = Panel(page)
        panel.keep("lesson_has_run")
        yield panel
        page.close()


@pytest.fixture(autouse=True)
def nothing_goes_wrong(panel):
    """After each test: no error in any output or in the browser's console."""
    yield
    problems, panel.page.problems = panel.page.problems, []
    assert panel.page.evaluate(OUTPUTS) == []
    assert panel.page.evaluate("heard.splice(0)") == problems == []


def test_the_image_of_the_panel_is_plainly_a_still(panel):
    """Issue 12: a perfect one stood below the real panel, and alone before a run."""
    panel.keep("panel")
    still = as_a_still(panel.at.screenshot())
    still.save(KEPT / "05_playground.png", optimize=True)
    shown = Image.open(ROOT / "lessons/assets/05_playground.png").convert("RGB")
    made = still.convert("RGB")
    band = (0, 0, 600, 36)  # the words, and the frame; few colours round them a little
    apart = ImageChops.difference(shown.crop(band), made.crop(band))
    assert max(ImageStat.Stat(apart).mean) < 2


@pytest.mark.parametrize("width", [900, 1078])
def test_the_panel_has_two_columns_down_to_900_pixels(panel, width):
    before = panel.page.viewport_size
    panel.page.set_viewport_size({"width": width, "height": 1000})
    panel.keep(f"at_{width}")
    wide = "e => [e.clientWidth, e.scrollWidth]"
    for box in [panel.at, *panel.at.locator(".widget-box").all()]:
        room, needed = box.evaluate(wide)
        assert needed <= room
    prompt = panel.control("textbox", "prompt").bounding_box()
    image = panel.at.get_by_role("img", name="samples of").bounding_box()
    assert image["x"] > prompt["x"] + prompt["width"] and image["width"] == 384
    assert abs(prompt["y"] - image["y"]) < 200  # side by side
    panel.page.set_viewport_size(before)


def test_the_panel_says_what_to_do_after_a_restart(panel):
    note = "If nothing moves any more (a restarted kernel), run this cell again."
    panel.expect(panel.at.get_by_text(note, exact=True)).to_be_visible()


def test_films_of_markdown_cells_are_enlarged_without_blur(panel):
    film = panel.page.locator(".jp-MarkdownOutput img[src*='assets/05_context.gif']")
    looks = film.first.evaluate("e => getComputedStyle(e).imageRendering")
    assert looks == "pixelated"


def test_a_screen_reader_finds_every_control_by_its_name(panel):
    sliders = ["hero", "non-hero", "food", "spell", "side-facing"]
    sliders += ["guidance", "steps", "η (eta)", "images", "film"]
    controls = {
        "slider": sliders,
        "textbox": ["prompt", "seed"],
        "combobox": ["preset", "sampler"],
        "checkbox": ["hold the noise"],
    }
    for role, names in controls.items():
        for name in names:
            assert panel.control(role, name).count() == 1, name
    for name in ("New seed", "Stop", "Save GIF"):
        assert panel.at.get_by_role("button", name=name).count() == 1, name
    assert panel.at.get_by_role("slider").count() == 10
    assert panel.at.get_by_role("slider", name=re.compile(".")).count() == 10
    panel.expect(panel.said()).to_contain_text("20 evaluations of the network")


def test_the_keyboard_moves_a_slider_and_redraws(panel):
    guidance = panel.control("slider", "guidance")
    guidance.focus()
    panel.drawn(lambda: guidance.press("ArrowRight"))
    assert panel.number_of("guidance") == "1.25"
    panel.expect(panel.said()).to_contain_text("40 evaluations of the network")
    panel.keep("guidance_by_keyboard")
    panel.drawn(lambda: guidance.press("ArrowLeft"))


def test_tab_leads_from_control_to_control(panel):
    panel.control("textbox", "prompt").focus()
    seen = []
    while len(seen) < 40 and seen[-1:] != ["Save GIF"]:
        panel.page.keyboard.press("Tab")
        name = """() => { const e = document.activeElement;
            return e.ariaLabel || e.labels?.[0]?.innerText || e.innerText.trim() }"""
        seen.append(panel.page.evaluate(name))
    order = ["preset", "hero", "non-hero", "food", "spell", "side-facing", "guidance"]
    order += ["sampler", "steps", "η (eta)", "images", "seed", "New seed"]
    order += ["hold the noise", "film", "Save GIF"]
    assert list(dict.fromkeys(seen)) == order


def test_the_mouse_moves_a_slider(panel):
    slider = panel.control("slider", "food")
    place = slider.bounding_box()
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2

    def drag():
        panel.page.mouse.move(x, y)
        panel.page.mouse.down()
        panel.page.mouse.move(x + 400, y, steps=5)
        panel.page.mouse.up()

    panel.drawn(drag)
    assert panel.number_of("food") == "1.00"
    panel.expect(panel.control("textbox", "prompt")).to_have_value("hero + food")
    panel.keep("food_by_mouse")


def test_a_prompt_draws_what_it_says(panel):
    panel.drawn(lambda: panel.write("0.5 spell + ½ hero"))
    shares = [panel.number_of(name) for name in ("hero", "food", "spell")]
    assert shares == ["0.50", "0.00", "0.50"]
    panel.keep("prompt")


def test_a_preset_writes_the_prompt(panel):
    preset = panel.control("combobox", "preset")
    panel.drawn(lambda: preset.select_option("no context"))
    panel.expect(panel.control("textbox", "prompt")).to_have_value("")
    panel.drawn(lambda: preset.select_option("spell"))
    panel.expect(panel.control("textbox", "prompt")).to_have_value("spell")


def test_a_bad_prompt_shows_its_message_beneath_it(panel):
    before = panel.images()
    panel.write("0.5 spel + hero")
    panel.expect(panel.said("alert")).to_contain_text("did you mean 'spell'?")
    prompt = panel.control("textbox", "prompt").bounding_box()
    message = panel.said("alert").bounding_box()
    assert 0 <= message["y"] - prompt["y"] - prompt["height"] < 20
    assert panel.images() == before
    panel.keep("bad_prompt")
    panel.drawn(lambda: panel.write("food"))
    panel.expect(panel.at.get_by_role("alert")).to_have_count(0)


def test_the_dice_draws_from_other_noise(panel):
    seed = panel.control("textbox", "seed")
    panel.expect(seed).to_have_value("0")
    panel.drawn(lambda: panel.press("New seed"))
    panel.expect(seed).not_to_have_value("0")
    panel.keep("dice")


@pytest.mark.parametrize("typed", ["3.7", "-5", "abc"])
def test_a_seed_that_is_none_is_refused_beside_its_field(panel, typed):
    seed, before = panel.control("textbox", "seed"), panel.images()
    last = seed.input_value()
    seed.fill(typed)
    seed.press("Enter")
    told = panel.at.get_by_role("alert").filter(has_text=f"got '{typed}'")
    panel.expect(told).to_contain_text("seed: a whole number")
    panel.expect(seed).to_have_value(last)
    assert panel.images() == before
    panel.keep("seed_refused")


@pytest.mark.parametrize(
    "name, typed, needed",
    [
        ("steps", "25.5", "a whole number from 1 to 100"),
        ("steps", "1000", "a whole number from 1 to 100"),
        ("guidance", "much", "a number from 0 to 6"),
    ],
)
def test_a_number_beside_a_slider_is_refused_in_words(panel, name, typed, needed):
    """Left alone, ipywidgets makes 25, 100 and the last one of these, silently."""
    number, before = panel.at.locator(f".widget-readout[aria-label='{name}']"), ""
    before = number.inner_text()
    number.fill(typed)
    number.press("Enter")
    told = panel.at.get_by_role("alert").filter(has_text=f"got '{typed}'")
    panel.expect(told).to_have_text(f"{name}: {needed} is needed, got '{typed}'")
    panel.expect(number).to_have_text(before)
    panel.keep("number_refused")
    good = {"steps": "21", "guidance": "1.50"}[name]
    panel.drawn(lambda: (number.fill(good), number.press("Enter")))
    panel.expect(told).to_have_count(0)
    panel.drawn(lambda: (number.fill(before), number.press("Enter")))


def test_a_burst_of_wishes_ends_with_the_last(panel):
    images = panel.control("slider", "images")
    images.focus()
    for _ in range(4):
        images.press("ArrowRight")
    last = panel.at.get_by_role("img", name="12 samples of food")
    last.wait_for(timeout=MINUTES)
    panel.keep("twelve")
    for _ in range(4):
        images.press("ArrowLeft")
    panel.at.get_by_role("img", name="8 samples of food").wait_for(timeout=MINUTES)
    stop = panel.at.get_by_role("button", name="Stop")
    panel.expect(stop).to_be_disabled(timeout=MINUTES)


def test_ddpm_can_be_stopped_and_its_film_scrubbed(panel):
    panel.control("combobox", "sampler").select_option("DDPM")
    stop = panel.at.get_by_role("button", name="Stop")
    panel.expect(stop).to_be_enabled(timeout=MINUTES)
    bar = panel.at.locator(".progress-bar").element_handle()
    panel.page.wait_for_function("b => parseFloat(b.style.width) > 3", arg=bar)
    panel.changed(lambda: None)  # the guess changes while it runs
    panel.expect(panel.at.get_by_text("the guess of x_0 on the way")).to_be_visible()
    panel.keep("ddpm_runs")
    panel.changed(stop.click)
    panel.expect(panel.said()).to_contain_text(re.compile(r"stopped at t = \d{3}"))
    panel.expect(stop).to_be_disabled()
    panel.keep("ddpm_stopped")
    film = panel.control("slider", "film")
    film.focus()
    panel.changed(lambda: film.press("ArrowLeft"))
    panel.changed(lambda: film.press("Home"))
    assert len(panel.images()) == 2
    panel.expect(panel.at.get_by_text("x_t at t = 500", exact=True)).to_be_visible()
    panel.keep("film_at_its_start")
    panel.changed(lambda: film.press("ArrowRight"))
    panel.expect(
        panel.at.get_by_text(re.compile("x_t at t = 49[2-9]$"))
    ).to_be_visible()


def test_other_cells_run_while_ddpm_draws(panel):
    """Also a check that a drawing never holds the kernel: DDPM takes seconds."""
    panel.press("New seed")
    stop = panel.at.get_by_role("button", name="Stop")
    panel.expect(stop).to_be_enabled(timeout=MINUTES)
    answer = panel.page.evaluate(
        """() => jupyterapp.shell.currentWidget.sessionContext.session.kernel
        .requestExecute({code: "6 * 7", store_history: false}).done
        .then(reply => reply.content.status)"""
    )
    assert answer == "ok"
    panel.expect(stop).to_be_enabled()
    stop.click()
    panel.expect(stop).to_be_disabled(timeout=MINUTES)


def test_an_interrupt_of_the_kernel_stops_a_drawing(panel):
    panel.press("New seed")
    stop = panel.at.get_by_role("button", name="Stop")
    panel.expect(stop).to_be_enabled(timeout=MINUTES)
    panel.page.get_by_role("menuitem", name="Kernel", exact=True).click()
    panel.page.get_by_text("Interrupt Kernel", exact=True).click()
    panel.expect(stop).to_be_disabled()
    panel.expect(panel.said()).to_contain_text("stopped at t = ")
    panel.keep("interrupted")


def test_ddpm_draws_to_its_end(panel):
    panel.changed(lambda: panel.press("New seed"))
    panel.expect(panel.said()).to_contain_text("500 evaluations", timeout=2 * MINUTES)
    panel.keep("ddpm_done")


def test_the_film_is_saved_and_can_be_downloaded(panel):
    panel.press("Save GIF")
    file = re.compile(r"sprites_ddpm-500_seed\d+_food_guidance1_8-samples.gif")
    link = panel.at.get_by_role("link", name=file)
    with panel.page.expect_download() as download:
        link.click()
    name = download.value.suggested_filename
    assert name == link.inner_text()
    kept = panel.page.project / "work/saved" / name
    assert kept.read_bytes().startswith(b"GIF89a")
    assert kept.read_bytes() == download.value.path().read_bytes()
    panel.keep("saved")


def test_running_the_cell_again_stops_the_old_drawing(panel):
    panel.press("New seed")
    panel.expect(panel.at.get_by_role("button", name="Stop")).to_be_enabled()
    again = panel.page.evaluate(
        """() => jupyterapp.shell.currentWidget.sessionContext.session.kernel
        .requestExecute({code: "old, panel = panel, lu.playground(dataset)"}).done
        .then(reply => reply.content.status)"""
    )
    assert again == "ok"
    panel.expect(panel.said()).to_contain_text("stopped at t = ", timeout=MINUTES)


def test_what_a_reader_does_leaves_git_clean(panel):
    """Opened, run, played with, saved: nothing tracked has changed, nothing is new."""
    panel.page.keyboard.press("Control+s")
    panel.page.wait_for_timeout(2000)
    assert git(panel.page.project, "status", "--porcelain") == ""
